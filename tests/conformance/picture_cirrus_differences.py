"""Where the picture of a Cirrus is the chip's and not QEMU's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from picture_cirrus import PLANAR, Cursor, Screen
from picture_difference import Difference
from picture_reference import Picture

_MANUAL = "CL-GD5446 technical reference manual"
_OUTSIDE = Cursor(2047, 2047)
"""On, so that QEMU takes the way of the chip, but not seen."""


def _full(red: int, green: int, blue: int) -> Callable[[Picture], Picture]:
    """So many high bits of each component, and these again below them."""
    bits = np.array((red, green, blue))
    kept = (0xFF << 8 - bits & 0xFF).astype(np.uint8)

    def change(picture: Picture) -> Picture:
        high = picture & kept
        return (high | high >> bits.astype(np.uint8)).astype(np.uint8)

    return change


def _doubled(picture: Picture) -> Picture:
    return picture.repeat(2, axis=0)[: len(picture)]


def _depth(bits: int, hidden_dac: int, *components: int) -> Difference:
    script = Screen(f"{bits}-bits", sr7=0x07, hidden_dac=hidden_dac).script()
    return Difference(
        script,
        f"{bits} bits per pixel",
        "missing low bits as zeros, its white is grey",
        "the high bits in place of the missing ones",
        "full scale is white",
        (script,),
        _full(*components),
    )


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
    _depth(15, 0x00, 5, 5, 5),
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
)
