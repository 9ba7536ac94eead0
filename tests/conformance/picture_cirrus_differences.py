"""Where the picture of a Cirrus is the chip's and not QEMU's."""

from __future__ import annotations

import numpy as np
from picture_cirrus import PLANAR, Cursor, Screen
from picture_difference import Difference
from picture_reference import Picture
from picture_vbe_differences import fifteen_bits

_MANUAL = "CL-GD5446 technical reference manual"
_OUTSIDE = Cursor(2047, 2047)
"""On, so that QEMU takes the way of the chip, but not seen."""


def _split(picture: Picture) -> Picture:
    return np.concatenate([picture[:21], picture[:-21]])


def _doubled(picture: Picture) -> Picture:
    return picture.repeat(2, axis=0)[: len(picture)]


def _planar(bits: int, sr7: int) -> Difference:
    name = f"{bits}-bits-by-planes"
    return Difference(
        Screen(name, PLANAR, sr7=sr7).script(),
        f"SR7 for {bits} bits, GR5 bit 6 clear, cursor off",
        "packed pixels, as if GR5 bit 6 were set; with the cursor on, planes",
        "planes, whether the cursor is on or off",
        "GR5 bits 6-5 choose the shift registers' mode",
        (Screen(f"{name}-cursor", PLANAR, sr7=sr7, cursor=_OUTSIDE).script(),),
    )


DIFFERENCES: tuple[Difference, ...] = (
    fifteen_bits(Screen("15-bits", sr7=0x07).script()),
    _planar(24, 0x05),
    _planar(32, 0x09),
    Difference(
        Screen("32-bits-double-scan", sr7=0x09, cr={0x09: 0xC0}).script(),
        "CR9 in 16, 24, 32 bits",
        "each line once",
        "each line as often as CR9 says",
        _MANUAL,
        (Screen("32-bits", sr7=0x09).script(),),
        _doubled,
    ),
    Difference(
        Screen("32-bits-split", sr7=0x09, cr={0x07: 0x00, 0x09: 0x00, 0x18: 20}).script(),
        "CR18 in 16, 24, 32 bits",
        "no split",
        "address 0 below the line that CR18 names",
        _MANUAL,
        (Screen("32-bits", sr7=0x09).script(),),
        _split,
    ),
)
