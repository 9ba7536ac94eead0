"""BAR 2 of the PCI VGA: EDID, VGA ports, DISPI registers and QEMU's own, in 4 KiB of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coalesced.devices.vga.edid import edid

if TYPE_CHECKING:
    from collections.abc import Callable

    from coalesced.devices.bus.device import StateValue
    from coalesced.devices.vga.ports import Ports
    from coalesced.devices.vga.vbe import Vbe

MMIO_SIZE: Final = 0x1000

EDID_SIZE: Final = 0x180
"""Room for the EDID; what it does not fill reads 0."""
PORTS_OFFSET: Final = 0x400
FIRST_PORT: Final = 0x3C0
PORTS_SIZE: Final = 0x20
DISPI_OFFSET: Final = 0x500
DISPI_SIZE: Final = 0x16
EXTENSION_OFFSET: Final = 0x600
EXTENSION_SIZE: Final = 8

EXTENSION_REG_SIZE: Final = 0
EXTENSION_REG_BYTE_ORDER: Final = 4
LITTLE_ENDIAN: Final = 0x1E1E1E1E
BIG_ENDIAN: Final = 0xBEBEBEBE

HOLE: Final = 0xFF


class Mmio:
    """Offsets from the start of the BAR, layout of QEMU 7.2 (its "standard VGA" specification)."""

    def __init__(self, ports: Ports, vbe: Vbe) -> None:
        self._ports = ports
        self._vbe = vbe
        self._edid = edid().ljust(EDID_SIZE, b"\0")
        self.big_endian = False

    def reset(self) -> None:
        """Go back to little endian."""
        self.big_endian = False

    def state(self) -> dict[str, StateValue]:
        """The byte order of the picture."""
        return {"big_endian": int(self.big_endian)}

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes in aligned steps of up to 4, as QEMU does."""
        return read_aligned(self._read_step, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes in aligned steps of up to 4, as QEMU does."""
        write_aligned(self._write_step, offset, size, value)

    def _read_step(self, offset: int, size: int) -> int:
        if 0 <= offset < EDID_SIZE:
            return int.from_bytes(self._edid[offset : offset + size], "little")
        if 0 <= (at := offset - PORTS_OFFSET) < PORTS_SIZE:
            return sum(
                self._ports.read_register(FIRST_PORT + at + position) << (8 * position)
                for position in range(size)
            )
        if 0 <= (at := offset - DISPI_OFFSET) < DISPI_SIZE:
            value = 0
            for position in range(0, size, 2):
                self._vbe.index = (at + position) >> 1
                value |= self._vbe.read_data() << (8 * position)
            return value
        if 0 <= (at := offset - EXTENSION_OFFSET) < EXTENSION_SIZE:
            return self._read_extension(at, size)
        return int.from_bytes(bytes((HOLE,)) * size, "little")

    def _read_extension(self, at: int, size: int) -> int:
        """Only whole registers are decoded."""
        if size != 4:
            return 0
        if at == EXTENSION_REG_SIZE:
            return EXTENSION_SIZE
        return BIG_ENDIAN if self.big_endian else LITTLE_ENDIAN

    def _write_step(self, offset: int, size: int, value: int) -> None:
        if 0 <= (at := offset - PORTS_OFFSET) < PORTS_SIZE:
            for position in range(size):
                port = FIRST_PORT + at + position
                self._ports.write_register(port, value >> (8 * position) & 0xFF)
        elif 0 <= (at := offset - DISPI_OFFSET) < DISPI_SIZE:
            for position in range(0, size, 2):
                self._vbe.index = (at + position) >> 1
                self._vbe.write_data(value >> (8 * position) & 0xFFFF)
        elif offset == EXTENSION_OFFSET + EXTENSION_REG_BYTE_ORDER and size == 4:
            self.big_endian = value == BIG_ENDIAN or (self.big_endian and value != LITTLE_ENDIAN)


def read_aligned(read: Callable[[int, int], int], offset: int, size: int) -> int:
    """Read by `read(offset, size)` in aligned steps of up to 4 bytes, lowest first."""
    value = 0
    shift = 0
    while size > 0:
        step = _step(offset, size)
        value |= (read(offset, step) & (1 << (8 * step)) - 1) << shift
        offset += step
        shift += 8 * step
        size -= step
    return value


def write_aligned(
    write: Callable[[int, int, int], None], offset: int, size: int, value: int
) -> None:
    """Write by `write(offset, size, value)` in aligned steps of up to 4 bytes, lowest first."""
    while size > 0:
        step = _step(offset, size)
        write(offset, step, value & (1 << (8 * step)) - 1)
        value >>= 8 * step
        offset += step
        size -= step


def _step(offset: int, size: int) -> int:
    step = 4 if size >= 4 else 2 if size >= 2 else 1
    while offset & (step - 1):
        step >>= 1
    return step
