"""The picture in the extended modes: packed pixels of 8 to 32 bits, and the hardware cursor.

Text and a VGA's own graphics modes are drawn by the VGA's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.cirrus.cursor import draw_cursor
from coalesced.devices.vga.crtc import addresses, geometry, is_programmed, parts
from coalesced.devices.vga.palette import dac_colors
from coalesced.devices.vga.registers import (
    AR_INDEX_PAS,
    CR_HORIZONTAL_DISPLAY_END,
    GR5_SHIFT_256,
    GR6_GRAPHICS,
    GR_MISC,
    GR_MODE,
    SR1_SCREEN_OFF,
    SR_CLOCKING_MODE,
)
from coalesced.devices.vga.render import render as render_vga

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.cirrus.engine import U8
    from coalesced.devices.cirrus.registers import CirrusRegisters

_FIVE_BITS: Final = np.array([value << 3 | value >> 2 for value in range(32)], np.uint8)
_SIX_BITS: Final = np.array([value << 2 | value >> 4 for value in range(64)], np.uint8)


def render(r: CirrusRegisters, vram: U8, frame: int) -> NDArray[np.uint8]:
    """Return the display as RGB of shape (height, width, 3).

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


def _render_packed(r: CirrusRegisters, vram: U8) -> NDArray[np.uint8]:
    """The counters are the VGA's; the width goes by CR1 alone, and AR13 pans nothing."""
    lines = geometry(r).lines
    width = (r.cr[CR_HORIZONTAL_DISPLAY_END] + 1) * 8
    if not r.ar_index & AR_INDEX_PAS or r.sr[SR_CLOCKING_MODE] & SR1_SCREEN_OFF:
        return np.zeros((lines, width, 3), np.uint8)
    starts = [addresses(r, part, 1) for part in parts(r, lines)]
    first = np.concatenate(starts) * 4
    bits = r.pixel_bits
    size = (bits + 7) // 8
    data = vram[(first + np.arange(width * size)) & (len(vram) - 1)]
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
