"""The picture on the monitor.

QEMU 7.2 leaves out much of what the chip does on its way to the screen: panning, blinking,
underlining, double scan and splits inside a row of text, wrapping. Here the chip is the model;
the places that differ from QEMU say so. Both show the same for what the BIOS's modes do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coalesced.devices.vga.crtc import UNPROGRAMMED, geometry, is_programmed, parts
from coalesced.devices.vga.graphics import draw_graphics, shows_256_colors
from coalesced.devices.vga.palette import attribute_colors, dac_colors, paired_colors
from coalesced.devices.vga.registers import (
    AR_INDEX_PAS,
    GR6_GRAPHICS,
    GR_MISC,
    SR1_SCREEN_OFF,
    SR_CLOCKING_MODE,
)
from coalesced.devices.vga.text import draw_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga.registers import Registers


def render(r: Registers, words: NDArray[np.uint32], frame: int) -> NDArray[np.uint8]:
    """Return the display, without overscan, as RGB of shape (height, width, 3).

    A blanked screen (AR index bit 5 clear, SR1 bit 5 set) is black in the size that the registers
    name; before the CRTC is programmed it is 640 by 480. `frame` counts from 0, for what blinks.
    """
    if not is_programmed(r):
        return np.zeros((*UNPROGRAMMED, 3), np.uint8)
    shape = geometry(r)
    if not r.ar_index & AR_INDEX_PAS or r.sr[SR_CLOCKING_MODE] & SR1_SCREEN_OFF:
        return np.zeros((shape.lines, shape.width, 3), np.uint8)
    graphics = r.gr[GR_MISC] & GR6_GRAPHICS
    colors = _colors_of_256(r) if graphics and shows_256_colors(r) else attribute_colors(r)
    drawn = []
    for part in parts(r, shape.lines):
        if graphics:
            pixels = draw_graphics(r, words, shape, part)
        else:
            pixels = draw_text(r, words, shape, part, frame)
        drawn.append(colors.take(pixels, axis=0))
    picture = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
    return picture.repeat(shape.dot_repeat, axis=1) if shape.dot_repeat > 1 else picture


def _colors_of_256(r: Registers) -> NDArray[np.uint8]:
    return paired_colors(r) if r.pairs_through_palette else dac_colors(r)
