"""The picture in the extended modes: packed pixels of 8 to 32 bits, and the hardware cursor.

Text and a VGA's own graphics modes are drawn by the VGA's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from devices.cirrus.cursor import draw_cursor
from devices.cirrus.registers import CR_EXTENDED_DISPLAY, CR_MISCELLANEOUS, CR_OVERLAY
from devices.vga.crtc import geometry, is_programmed
from devices.vga.palette import dac_colors
from devices.vga.registers import (
    AR_INDEX_PAS,
    CR9_DOUBLE_SCAN,
    CR_LINE_COMPARE,
    CR_MAXIMUM_SCAN_LINE,
    CR_OFFSET,
    CR_OVERFLOW,
    CR_START_HIGH,
    CR_START_LOW,
    GR5_SHIFT_256,
    GR6_GRAPHICS,
    GR_MISC,
    GR_MODE,
    SR1_SCREEN_OFF,
    SR_CLOCKING_MODE,
)
from devices.vga.render import render as render_vga

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from devices.cirrus.engine import U8
    from devices.cirrus.registers import CirrusRegisters

CR1A_INTERLACED: Final = 0x01

_FIVE_BITS: Final = np.array([value << 3 | value >> 2 for value in range(32)], np.uint8)
_SIX_BITS: Final = np.array([value << 2 | value >> 4 for value in range(64)], np.uint8)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the picture lies in memory."""

    width: int
    """Pixels per line."""
    height: int
    """Lines."""
    start: int
    """Byte address of the first pixel."""
    pitch: int
    """Bytes from line to line."""
    repeat: int
    """Scan lines that show the same line of memory."""
    split: int
    """The first scan line that starts again from address 0."""


def render(r: CirrusRegisters, vram: U8, frame: int) -> NDArray[np.uint8]:
    """Return what is displayed as RGB of shape (height, width, 3).

    Packed pixels need SR7 bit 0, GR6 bit 0 and GR5 bit 6, as in QEMU. The rest is a VGA's.
    """
    graphics = r.gr[GR_MISC] & GR6_GRAPHICS
    packed = graphics and r.extended and r.gr[GR_MODE] & GR5_SHIFT_256
    if not packed or not is_programmed(r):
        picture = render_vga(r, vram.view(np.uint32), frame)
    else:
        picture = _render_packed(r, vram)
    blank = not r.ar_index & AR_INDEX_PAS or r.sr[SR_CLOCKING_MODE] & SR1_SCREEN_OFF
    if graphics and not blank:
        draw_cursor(r, vram, picture)
    return picture


def frame_of(r: CirrusRegisters) -> Frame:
    """Read size and place of the picture from the CRTC and its extensions."""
    cr = r.cr
    extended = cr[CR_EXTENDED_DISPLAY]
    start = cr[CR_START_HIGH] << 8 | cr[CR_START_LOW]
    start |= (extended & 0x01) << 16 | (extended & 0x0C) << 15 | (cr[CR_OVERLAY] & 0x80) << 12
    repeat = (cr[CR_MAXIMUM_SCAN_LINE] & 0x1F) + 1
    if cr[CR_MAXIMUM_SCAN_LINE] & CR9_DOUBLE_SCAN:
        repeat *= 2
    lines = geometry(r).lines
    if cr[CR_MISCELLANEOUS] & CR1A_INTERLACED:
        lines *= 2
    compare = (
        cr[CR_LINE_COMPARE] | (cr[CR_OVERFLOW] & 0x10) << 4 | (cr[CR_MAXIMUM_SCAN_LINE] & 0x40) << 3
    )
    return Frame(
        width=geometry(r).columns * 8,
        height=lines,
        start=start << 2,
        pitch=(cr[CR_OFFSET] | (extended & 0x10) << 4) << 3,
        repeat=repeat,
        split=compare + 1,
    )


def _render_packed(r: CirrusRegisters, vram: U8) -> NDArray[np.uint8]:
    shown = frame_of(r)
    if not r.ar_index & AR_INDEX_PAS or r.sr[SR_CLOCKING_MODE] & SR1_SCREEN_OFF:
        return np.zeros((shown.height, shown.width, 3), np.uint8)
    lines = np.arange(shown.height)
    addresses = shown.start + lines // shown.repeat * shown.pitch
    below = lines >= shown.split
    addresses[below] = (lines[below] - shown.split) // shown.repeat * shown.pitch
    bits = r.pixel_bits
    size = (bits + 7) // 8
    span = np.arange(shown.width * size)
    data = vram[(addresses[:, np.newaxis] + span) & (len(vram) - 1)]
    return _colors(r, data, bits)


def _colors(r: CirrusRegisters, data: U8, bits: int) -> NDArray[np.uint8]:
    """Turn lines of pixels as they lie in memory, lowest byte first, into RGB."""
    rows = len(data)
    if bits == 8:
        return dac_colors(r)[data]
    if bits <= 16:
        pixels = data.view("<u2")
        blue = _FIVE_BITS[pixels & 0x1F]
        if bits == 15:
            green, red = _FIVE_BITS[pixels >> 5 & 0x1F], _FIVE_BITS[pixels >> 10 & 0x1F]
        else:
            green, red = _SIX_BITS[pixels >> 5 & 0x3F], _FIVE_BITS[pixels >> 11]
        return np.stack((red, green, blue), axis=-1)
    return np.ascontiguousarray(data.reshape(rows, -1, bits // 8)[:, :, 2::-1])
