"""The hardware cursor: 32 x 32 or 64 x 64 pixels of two bits over the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.cirrus.registers import (
    SR12_CURSOR_64,
    SR12_CURSOR_ON,
    SR_CURSOR_ATTRIBUTES,
    SR_CURSOR_PATTERN,
)
from coalesced.devices.vga.palette import expand_6bit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.cirrus.engine import U8
    from coalesced.devices.cirrus.registers import CirrusRegisters

PATTERNS_SIZE: Final = 16 << 10
"""Bytes at the end of the engine's video memory that hold the patterns; SR13 chooses among them."""
PATTERN_STEP: Final = 256
FOREGROUND: Final = 15
"""Hidden colours 0 and 15 are the cursor's background and foreground."""


def cursor_planes(r: CirrusRegisters, vram: U8) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return planes 0 and 1 of the pattern, shape (32, 32) or (64, 64).

    In a small pattern plane 1 follows plane 0; in a large one each line has 8 bytes of plane 0
    and then 8 of plane 1, and SR13 counts in fours.
    """
    select = r.sr[SR_CURSOR_PATTERN]
    end = r.variant.vram_size
    patterns = vram[end - PATTERNS_SIZE : end]
    if r.sr[SR_CURSOR_ATTRIBUTES] & SR12_CURSOR_64:
        start = (select & 0x3C) * PATTERN_STEP
        lines = patterns[start : start + 1024].reshape(64, 16)
        plane_0, plane_1 = lines[:, :8], lines[:, 8:]
    else:
        start = (select & 0x3F) * PATTERN_STEP
        planes = patterns[start : start + 256].reshape(2, 32, 4)
        plane_0, plane_1 = planes[0], planes[1]
    bits_0 = np.unpackbits(np.ascontiguousarray(plane_0), axis=1).view(np.bool_)
    bits_1 = np.unpackbits(np.ascontiguousarray(plane_1), axis=1).view(np.bool_)
    return bits_0, bits_1


def draw_cursor(r: CirrusRegisters, vram: U8, picture: NDArray[np.uint8]) -> None:
    """Draw the cursor into an RGB picture of shape (height, width, 3), if it is on.

    Planes 1 and 0 say: 00 transparent, 01 inverted, 10 background, 11 foreground.
    """
    if not r.sr[SR_CURSOR_ATTRIBUTES] & SR12_CURSOR_ON:
        return
    plane_0, plane_1 = cursor_planes(r, vram)
    area = picture[r.cursor_y : r.cursor_y + len(plane_0), r.cursor_x : r.cursor_x + len(plane_0)]
    plane_0 = plane_0[: area.shape[0], : area.shape[1]]
    plane_1 = plane_1[: area.shape[0], : area.shape[1]]
    hidden = np.frombuffer(bytes(r.hidden_palette), np.uint8).reshape(16, 3)
    colors = expand_6bit(hidden)
    area[plane_0 & ~plane_1] ^= 0xFF
    area[plane_1 & ~plane_0] = colors[0]
    area[plane_1 & plane_0] = colors[FOREGROUND]
