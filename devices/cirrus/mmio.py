"""The blitter's registers in memory: which of them lies where, and BAR1.

Source: CL-GD5446 technical reference, "memory-mapped I/O"; QEMU 7.2 answers the same offsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coalesced.devices.cirrus.registers import (
    GR_BACKGROUND_1,
    GR_BLT_DST_START_HIGH,
    GR_BLT_STATUS,
    GR_MASK_ALL,
)

if TYPE_CHECKING:
    from coalesced.devices.cirrus.ports import CirrusPorts
    from coalesced.devices.cirrus.registers import CirrusRegisters

ABSENT: Final = 0xFF
BAR1_SIZE: Final = 0x1000
BAR1_REGISTERS: Final = 0x100
"""Offset of the blitter's registers in BAR1; below lie the ports from 0x3c0 on."""
PORTS_SIZE: Final = 0x20
FIRST_PORT: Final = 0x10
"""0x3c0 as an offset from 0x3b0."""

_GR_BY_OFFSET: Final[dict[int, int]] = {
    0x00: 0x00,  # background, lowest byte first
    0x01: 0x10,
    0x02: 0x12,
    0x03: 0x14,
    0x04: 0x01,  # foreground
    0x05: 0x11,
    0x06: 0x13,
    0x07: 0x15,
    **{0x08 + byte: 0x20 + byte for byte in range(8)},  # width, height, pitches
    0x10: 0x28,  # destination start
    0x11: 0x29,
    0x12: 0x2A,
    0x14: 0x2C,  # source start
    0x15: 0x2D,
    0x16: 0x2E,
    0x17: 0x2F,  # left side skip
    0x18: 0x30,  # mode
    0x1A: 0x32,  # raster operation
    0x1B: 0x33,  # mode extensions
    0x1C: 0x34,  # transparent colour
    0x1D: 0x35,
    0x20: 0x38,  # its mask
    0x21: 0x39,
    0x40: GR_BLT_STATUS,
}


_ACTING: Final = {GR_BLT_STATUS, GR_BLT_DST_START_HIGH}
_PLAIN_BY_OFFSET: Final[dict[int, tuple[int, int]]] = {
    offset: (index, GR_MASK_ALL[index])
    for offset, index in _GR_BY_OFFSET.items()
    if index >= GR_BACKGROUND_1 and index not in _ACTING and GR_MASK_ALL[index]
}
"""Those that only keep what is written, with the bits that they keep: a blit takes some twenty."""


class MemoryMappedRegisters:
    """The blitter's registers by offset, and the 4 KiB of BAR1 that hold them and the ports."""

    def __init__(self, registers: CirrusRegisters, ports: CirrusPorts) -> None:
        self._gr = registers.gr
        self._ports = ports

    def read_register(self, offset: int) -> int:
        """Read the byte at `offset`, 0 to 0xff; 0xff where there is no register."""
        index = _GR_BY_OFFSET.get(offset)
        return ABSENT if index is None else self._ports.read_gr_register(index)

    def write_registers(self, offset: int, size: int, value: int) -> None:
        """Write the bytes from `offset` on, lowest first; each of them may start a blit."""
        for at in range(offset, offset + size):
            plain = _PLAIN_BY_OFFSET.get(at)
            if plain is not None:
                index, mask = plain
                self._gr[index] = value & mask
            elif at in _GR_BY_OFFSET:
                self._ports.write_gr_register(_GR_BY_OFFSET[at], value & 0xFF)
            value >>= 8

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes of BAR1, lowest first."""
        value = 0
        for position in range(size):
            at = offset + position
            if at >= BAR1_REGISTERS:
                byte = self.read_register(at - BAR1_REGISTERS)
            elif at < PORTS_SIZE:
                byte = self._ports.read_byte(at + FIRST_PORT)
            else:
                byte = 0
            value |= byte << (8 * position)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes to BAR1, lowest first."""
        if offset >= BAR1_REGISTERS:
            self.write_registers(offset - BAR1_REGISTERS, size, value)
            return
        for position in range(size):
            at = offset + position
            byte = value >> (8 * position) & 0xFF
            if at >= BAR1_REGISTERS:
                self.write_registers(at - BAR1_REGISTERS, 1, byte)
            elif at < PORTS_SIZE:
                self._ports.write_byte(at + FIRST_PORT, byte)
