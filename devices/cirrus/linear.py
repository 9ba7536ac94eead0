"""Writes to linear video memory: plain bytes, or eight pixels per byte (write modes 4 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.cirrus.registers import (
    GR_BACKGROUND_1,
    GR_EXTENSIONS,
    GR_FOREGROUND_1,
    GRB_BY_8,
    GRB_EXTENDED_WRITE_MODES,
    GRB_WIDE_PIXELS,
)
from coalesced.devices.vga.registers import GR_MODE
from coalesced.devices.vga.runs import linear_plan

if TYPE_CHECKING:
    from coalesced.devices.bus.write_run import U64, WriteRun
    from coalesced.devices.cirrus.engine import U8
    from coalesced.devices.cirrus.registers import CirrusRegisters

SHORT_RUN: Final = 8


def addressing_shift(r: CirrusRegisters) -> int:
    """Left shift of addresses: an address selects 1, 8 or 16 bytes of memory."""
    extensions = r.gr[GR_EXTENSIONS]
    if extensions & GRB_WIDE_PIXELS == GRB_WIDE_PIXELS:
        return 4
    return 3 if extensions & GRB_BY_8 else 0


def writes_pixels(r: CirrusRegisters) -> bool:
    """True when a written byte is expanded to eight pixels (write modes 4 and 5)."""
    return r.gr[GR_MODE] & 7 in {4, 5} and bool(r.gr[GR_EXTENSIONS] & GRB_EXTENDED_WRITE_MODES)


class LinearWrites:
    """Writes behind the banks or in the linear framebuffer, while no blit takes them."""

    def __init__(self, registers: CirrusRegisters, vram: U8) -> None:
        self._r = registers
        self._vram = vram
        self._mask = registers.variant.vram_size - 1
        self._bytes = vram.data

    def write_byte(self, address: int, value: int) -> None:
        """Write one byte, `value` 0 to 255, at an address before shifting."""
        r = self._r
        shift = addressing_shift(r)
        if shift:
            address = address << shift & self._mask
        if not writes_pixels(r):
            self._bytes[address] = value
            return
        foreground = bytes((r.shadow_gr1,))
        background = bytes((r.shadow_gr0,))
        if r.gr[GR_EXTENSIONS] & GRB_WIDE_PIXELS == GRB_WIDE_PIXELS:
            foreground += bytes((r.gr[GR_FOREGROUND_1],))
            background += bytes((r.gr[GR_BACKGROUND_1],))
        size = len(foreground)
        for bit in range(8):
            pixel = foreground if value & 0x80 >> bit else background
            if pixel is foreground or r.gr[GR_MODE] & 7 == 5:
                for position in range(size):
                    self._bytes[address + bit * size + position & self._mask] = pixel[position]

    def take_run(self, run: WriteRun, base: int, limit: int) -> int:
        """Do what calls of `write_byte` would for each byte of each write, and take all.

        Offsets count from address `base`; bytes at `limit` and beyond are lost.
        """
        offsets, sizes, values = run.addresses, run.sizes, run.values
        shift = addressing_shift(self._r)
        if shift == 0 and not writes_pixels(self._r) and len(offsets) > SHORT_RUN:
            linear_plan(self._vram[base : base + limit]).write(run)
            return len(offsets)
        if (
            shift
            and writes_pixels(self._r)
            and len(offsets) > SHORT_RUN
            and sizes.max() == 1
            and (offsets[1:] > offsets[:-1]).all()
            and offsets[-1] < limit
        ):
            self._write_pixel_run((offsets + np.uint64(base)).view(np.intp), values, shift)
            return len(offsets)
        for offset, size, value in zip(
            offsets.tolist(), sizes.tolist(), values.tolist(), strict=True
        ):
            for position in range(size):
                if offset + position < limit:
                    self.write_byte(base + offset + position, value >> (8 * position) & 0xFF)
        return len(offsets)

    def _write_pixel_run(self, addresses: NDArray[np.intp], values: U64, shift: int) -> None:
        """Write eight pixels per byte at ascending addresses, each a whole unit of memory."""
        r = self._r
        kind = np.uint16 if shift == 4 else np.uint8
        foreground = r.shadow_gr1 | r.gr[GR_FOREGROUND_1] << 8
        background = r.shadow_gr0 | r.gr[GR_BACKGROUND_1] << 8
        mask = (1 << (8 * np.dtype(kind).itemsize)) - 1
        groups = self._vram[: self._mask + 1].view(kind).reshape(-1, 8)
        at = addresses & (len(groups) - 1)
        bits = np.unpackbits(values.astype(np.uint8)).reshape(-1, 8).view(np.bool_)
        if r.gr[GR_MODE] & 7 == 5:
            groups[at] = np.where(bits, kind(foreground & mask), kind(background & mask))
        else:
            old = groups[at]
            old[bits] = foreground & mask
            groups[at] = old
