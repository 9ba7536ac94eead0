"""The VGA's I/O ports 0x3b0 to 0x3df, decoded as QEMU 7.2 decodes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coalesced.devices.vga.registers import (
    AR_MASK,
    AR_REGISTERS,
    CR11_PROTECT,
    CR_OVERFLOW,
    CR_VERTICAL_SYNC_END,
    FCR_MASK,
    GR_MASK,
    MISC_COLOR,
    MISC_MASK,
    SR_MASK,
    ST01_TOGGLE,
)

if TYPE_CHECKING:
    from coalesced.devices.vga.registers import Registers

PORT_BASE: Final = 0x3B0
PORT_COUNT: Final = 0x30
UNDECODED: Final = 0xFF

DECODED: Final = frozenset((0x3B4, 0x3B5, 0x3BA, *range(0x3C0, 0x3D0), 0x3D4, 0x3D5, 0x3DA))
"""Ports that belong to the chip, whichever of the two CRTC addresses is in use."""

ReadPort = Callable[[], int]
WritePort = Callable[[int], None]


class Ports:
    """Byte-wide ports over a set of registers.

    `readers` and `writers` hold a function per port, by offset from 0x3b0; a chip with more
    registers replaces those of its own with `decode`. Offsets of accesses count from 0x3b0 too.
    """

    def __init__(self, registers: Registers) -> None:
        self._r = registers
        undecoded_read: list[ReadPort] = [_read_undecoded] * PORT_COUNT
        undecoded_write: list[WritePort] = [_write_ignored] * PORT_COUNT
        # One table per position of MISC bit 0, which moves the CRTC between 0x3bx and 0x3dx.
        self._readers = (undecoded_read, undecoded_read.copy())
        self._writers = (undecoded_write, undecoded_write.copy())
        for port in range(0x3C0, 0x3D0):  # the chip answers here, with 0 where it has no register
            self.decode(port, _read_zero, _write_ignored)
        self.decode(0x3C0, self._read_ar_index, self._write_ar)
        self.decode(0x3C1, self._read_ar, _write_ignored)
        self.decode(0x3C2, _read_zero, self._write_misc)  # input status 0: no switch, no interrupt
        self.decode(0x3C4, self._read_sr_index, self._write_sr_index)
        self.decode(0x3C5, self._read_sr, self.write_sr)
        self.decode(0x3C7, self._read_dac_state, self._write_dac_read_index)
        self.decode(0x3C8, self._read_dac_write_index, self._write_dac_write_index)
        self.decode(0x3C9, self._read_dac_data, self._write_dac_data)
        self.decode(0x3CA, self._read_fcr, _write_ignored)
        self.decode(0x3CC, self._read_misc, _write_ignored)
        self.decode(0x3CE, self._read_gr_index, self._write_gr_index)
        self.decode(0x3CF, self._read_gr, self.write_gr)
        self.decode(0x3D4, self._read_cr_index, self._write_cr_index)
        self.decode(0x3D5, self._read_cr, self.write_cr)
        self.decode(0x3DA, self._read_st01, self._write_fcr)

    def decode(self, port: int, read: ReadPort, write: WritePort) -> None:
        """Let `read` and `write` answer a port; 0x3dx includes its twin at 0x3bx."""
        offset = port - PORT_BASE
        mono_offset = offset - 0x20 if port >= 0x3D0 else offset
        for mode, at in enumerate((mono_offset, offset)):
            self._readers[mode][at] = read
            self._writers[mode][at] = write

    def after_indexed_write(self, follow: Callable[[], None]) -> None:
        """Call `follow()` behind each write of SR, GR or CR, for a chip that overrules those."""
        for port, read, write in (
            (0x3C5, self._read_sr, self.write_sr),
            (0x3CF, self._read_gr, self.write_gr),
            (0x3D5, self._read_cr, self.write_cr),
        ):
            self.decode(port, read, _followed(write, follow))

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes; a word reads the lower port first."""
        if size == 1 and 0 <= offset < PORT_COUNT:
            return self._readers[self._r.misc & MISC_COLOR][offset]()
        if size == 2 and 0 <= offset < PORT_COUNT - 1:
            readers = self._readers[self._r.misc & MISC_COLOR]
            return readers[offset]() | readers[offset + 1]() << 8
        value = 0
        shift = 0
        while size:
            step = _step(offset, size)
            for position in range(step):
                at = offset + position
                if step > 2 or not 0 <= at < PORT_COUNT:
                    byte = UNDECODED
                else:
                    byte = self._readers[self._r.misc & MISC_COLOR][at]()
                value |= byte << shift
                shift += 8
            offset += step
            size -= step
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes; a word writes the lower port first: an index before its data."""
        if size == 1 and 0 <= offset < PORT_COUNT:
            self._writers[self._r.misc & MISC_COLOR][offset](value & 0xFF)
            return
        if size == 2 and 0 <= offset < PORT_COUNT - 1:
            writers = self._writers[self._r.misc & MISC_COLOR]
            writers[offset](value & 0xFF)
            writers[offset + 1]((value >> 8) & 0xFF)
            return
        while size:
            step = _step(offset, size)
            if step <= 2:
                for position in range(step):
                    at = offset + position
                    if 0 <= at < PORT_COUNT:
                        byte = (value >> (8 * position)) & 0xFF
                        self._writers[self._r.misc & MISC_COLOR][at](byte)
            value >>= 8 * step
            offset += step
            size -= step

    def read_register(self, port: int) -> int:
        """Read one byte where registers lie in memory: there QEMU decodes no ports.

        What has no register is 0 then, but 0xff among those of the CRTC address not in use.
        """
        if port in DECODED:
            return self._readers[self._r.misc & MISC_COLOR][port - PORT_BASE]()
        first_unused = 0x3B0 if self._r.misc & MISC_COLOR else 0x3D0
        return UNDECODED if first_unused <= port < first_unused + 0x10 else 0

    def write_register(self, port: int, value: int) -> None:
        """Write one byte (0 to 255) likewise."""
        if port in DECODED:
            self._writers[self._r.misc & MISC_COLOR][port - PORT_BASE](value)

    # Sequencer

    def _read_sr_index(self) -> int:
        return self._r.sr_index

    def _write_sr_index(self, value: int) -> None:
        self._r.sr_index = value & 0x07

    def _read_sr(self) -> int:
        return self._r.sr[self._r.sr_index]

    def write_sr(self, value: int) -> None:
        r = self._r
        r.sr[r.sr_index] = value & SR_MASK[r.sr_index]
        r.generation += 1

    # Graphics controller

    def _read_gr_index(self) -> int:
        return self._r.gr_index

    def _write_gr_index(self, value: int) -> None:
        self._r.gr_index = value & 0x0F

    def _read_gr(self) -> int:
        return self._r.gr[self._r.gr_index]

    def write_gr(self, value: int) -> None:
        r = self._r
        r.gr[r.gr_index] = value & GR_MASK[r.gr_index]
        r.generation += 1

    # CRT controller

    def _read_cr_index(self) -> int:
        return self._r.cr_index

    def _write_cr_index(self, value: int) -> None:
        self._r.cr_index = value

    def _read_cr(self) -> int:
        return self._r.cr[self._r.cr_index]

    def write_cr(self, value: int) -> None:
        r = self._r
        index = r.cr_index
        if index <= CR_OVERFLOW and r.cr[CR_VERTICAL_SYNC_END] & CR11_PROTECT:
            # CR0 to CR7 are locked, but for the line compare bit in CR7.
            if index == CR_OVERFLOW:
                r.cr[index] = (r.cr[index] & ~0x10) | (value & 0x10)
            return
        r.cr[index] = value

    # Attribute controller: one port takes index and data in turn

    def _read_ar_index(self) -> int:
        return 0 if self._r.ar_flip_flop else self._r.ar_index

    def _read_ar(self) -> int:
        index = self._r.ar_index & 0x1F
        return self._r.ar[index] if index < AR_REGISTERS else 0

    def _write_ar(self, value: int) -> None:
        r = self._r
        if r.ar_flip_flop:
            index = r.ar_index & 0x1F
            if index < AR_REGISTERS:
                r.ar[index] = value & AR_MASK[index]
            r.ar_flip_flop = 0
        else:
            r.ar_index = value & 0x3F
            r.ar_flip_flop = 1

    # DAC: QEMU keeps all eight bits of a component and has no PEL mask (0x3c6)

    def _read_dac_state(self) -> int:
        return self._r.dac_state

    def _write_dac_read_index(self, value: int) -> None:
        self._r.dac_read_index = value
        self._r.dac_sub_index = 0
        self._r.dac_state = 3

    def _read_dac_write_index(self) -> int:
        return self._r.dac_write_index

    def _write_dac_write_index(self, value: int) -> None:
        self._r.dac_write_index = value
        self._r.dac_sub_index = 0
        self._r.dac_state = 0

    def _read_dac_data(self) -> int:
        r = self._r
        value = r.palette[r.dac_read_index * 3 + r.dac_sub_index]
        if r.dac_sub_index == 2:
            r.dac_sub_index = 0
            r.dac_read_index = (r.dac_read_index + 1) & 0xFF
        else:
            r.dac_sub_index += 1
        return value

    def _write_dac_data(self, value: int) -> None:
        """Collect red, green, blue; a colour changes only once it is complete."""
        r = self._r
        r.dac_cache[r.dac_sub_index] = value
        if r.dac_sub_index == 2:
            start = r.dac_write_index * 3
            r.palette[start : start + 3] = r.dac_cache
            r.dac_sub_index = 0
            r.dac_write_index = (r.dac_write_index + 1) & 0xFF
        else:
            r.dac_sub_index += 1

    # Miscellaneous output, feature control, input status

    def _read_misc(self) -> int:
        return self._r.misc

    def _write_misc(self, value: int) -> None:
        self._r.misc = value & MISC_MASK

    def _read_fcr(self) -> int:
        return self._r.fcr

    def _write_fcr(self, value: int) -> None:
        self._r.fcr = value & FCR_MASK

    def _read_st01(self) -> int:
        r = self._r
        r.ar_flip_flop = 0
        r.st01 ^= ST01_TOGGLE
        return r.st01


def _read_undecoded() -> int:
    return UNDECODED


def _read_zero() -> int:
    return 0


def _write_ignored(value: int) -> None:
    """Take a write that no register receives."""


def _followed(write: WritePort, follow: Callable[[], None]) -> WritePort:
    def write_and_follow(value: int) -> None:
        write(value)
        follow()

    return write_and_follow


def _step(offset: int, size: int) -> int:
    """Number of bytes of an access that QEMU handles at once; 4 or more of them reach no port.

    From a port of the chip it takes as much as there is, up to a dword, and offers that to
    byte-wide ports, of which it joins two at most. Beside them it goes in aligned steps.
    """
    step = 4 if size >= 4 else 2 if size >= 2 else 1
    if offset + PORT_BASE not in DECODED:
        while offset & (step - 1):
            step >>= 1
    return step
