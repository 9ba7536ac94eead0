"""Text modes: glyphs from plane 2, drawn under characters (plane 0) and attributes (plane 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.vga.crtc import addresses, geometry, is_programmed, parts
from coalesced.devices.vga.registers import (
    AR10_BLINK,
    AR10_LINE_GRAPHICS,
    AR_MODE,
    CR0A_CURSOR_OFF,
    CR_CURSOR_END,
    CR_CURSOR_HIGH,
    CR_CURSOR_LOW,
    CR_CURSOR_START,
    CR_UNDERLINE,
    SR_CHARACTER_MAP,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga.crtc import Geometry, Part
    from coalesced.devices.vga.registers import Registers

CURSOR_FRAMES: Final = 8
BLINK_FRAMES: Final = 16
UNDERLINED: Final = 0x01
"""Foreground 1 on background 0, brightness and blinking aside: the underlined attribute."""

FONT_SIZE: Final = 8192
GLYPH_SIZE: Final = 32

_SYMBOLS: Final = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
CHARACTERS: Final = (
    _SYMBOLS
    + bytes(range(0x20, 0x7F)).decode("cp437")
    + "⌂"
    + bytes(range(0x80, 0xFF)).decode("cp437")
    + " "
)
"""Code page 437 as it looks: 0 and 255 are blank, the control codes have glyphs."""


def draw_text(
    r: Registers, words: NDArray[np.uint32], shape: Geometry, part: Part, frame: int
) -> NDArray[np.uint8]:
    """Draw a part's dots as 4-bit pixel values, shape (lines, columns * dots)."""
    columns = shape.columns + (1 if part.pan else 0)
    cells = addresses(r, part, columns)
    cell_words = words[cells]
    characters = (cell_words & 0xFF).astype(np.uint8)
    attributes = (cell_words >> 8 & 0xFF).astype(np.uint8)
    scans = part.scans[:, np.newaxis]
    fonts = np.array(_font_addresses(r))[attributes >> 3 & 1]
    glyphs = words[fonts + characters.astype(np.intp) * GLYPH_SIZE + scans] >> 16
    dots = _glyph_dots(glyphs.astype(np.uint8), shape.dots)
    if r.ar[AR_MODE] & AR10_LINE_GRAPHICS:
        # Box drawing joins its neighbour. QEMU does so from 0xb0 on, the chip from 0xc0.
        dots[:, :, 8:] = dots[:, :, 7:8] & ((characters & 0xE0) == 0xC0)[:, :, np.newaxis]

    underline = ((attributes & 0x77) == UNDERLINED) & (scans == (r.cr[CR_UNDERLINE] & 0x1F))
    dots[underline] = 1
    foreground = attributes & 0x0F
    background = attributes >> 4
    if r.ar[AR_MODE] & AR10_BLINK:
        # Bit 7 blinks instead of brightening the background. QEMU 7.2 brightens in any case.
        if frame // BLINK_FRAMES % 2:
            dots[background >= 8] = 0
        background &= 7
    dots[_cursor_cells(r, cells, scans, frame)] = 1

    pixels = dots * (foreground ^ background)[:, :, np.newaxis]
    pixels ^= background[:, :, np.newaxis]
    line = pixels.reshape(len(cells), columns * shape.dots)
    return line[:, part.pan : part.pan + shape.columns * shape.dots]


def _glyph_dots(glyphs: NDArray[np.uint8], dots: int) -> NDArray[np.uint8]:
    """Turn lines of glyphs into dots 0 or 1, the ninth 0, shape (lines, columns, dots)."""
    drawn = np.zeros((*glyphs.shape, dots), np.uint8)
    drawn[:, :, :8] = np.unpackbits(glyphs[:, :, np.newaxis], axis=-1)
    return drawn


def _font_addresses(r: Registers) -> tuple[int, int]:
    """Return where in plane 2 the fonts for attribute bit 3 clear and set begin (SR3: B and A)."""
    select = r.sr[SR_CHARACTER_MAP]
    font_b = (select & 0x03) << 1 | select >> 4 & 1
    font_a = (select & 0x0C) >> 1 | select >> 5 & 1
    return font_b * FONT_SIZE, font_a * FONT_SIZE


def _cursor_cells(
    r: Registers, cells: NDArray[np.intp], scans: NDArray[np.intp], frame: int
) -> NDArray[np.bool_]:
    """Tell where the cursor is solid: its cell, CR0A to CR0B inclusive, in its visible frames.

    A start below the end shows nothing. CR0B bits 6-5 delay the cursor by characters.
    """
    cr = r.cr
    if cr[CR_CURSOR_START] & CR0A_CURSOR_OFF or frame // CURSOR_FRAMES % 2:
        return np.zeros(cells.shape, np.bool_)
    location = cr[CR_CURSOR_HIGH] << 8 | cr[CR_CURSOR_LOW]
    location += cr[CR_CURSOR_END] >> 5 & 3
    first = cr[CR_CURSOR_START] & 0x1F
    last = cr[CR_CURSOR_END] & 0x1F
    solid: NDArray[np.bool_] = (cells == location & 0xFFFF) & (scans >= first) & (scans <= last)
    return solid


def text_rows(r: Registers, words: NDArray[np.uint32]) -> list[str]:
    """Return the rows of characters on the screen, without the blanks at their ends.

    A row counts even if only some of its scan lines are seen.
    """
    if not is_programmed(r):
        return []
    shape = geometry(r)
    rows = []
    for part in parts(r, shape.lines):
        _, first_lines = np.unique(part.rows, return_index=True)
        cells = addresses(r, part, shape.columns)[first_lines]
        for codes in (words[cells] & 0xFF).tolist():
            rows.append("".join([CHARACTERS[code] for code in codes]).rstrip())
    return rows
