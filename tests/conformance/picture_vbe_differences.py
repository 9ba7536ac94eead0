"""Where the picture of a VBE mode is the chip's and not QEMU's."""

from __future__ import annotations

import numpy as np
from conformance_script import Script
from picture_difference import Difference
from picture_reference import Picture
from picture_vbe import Screen


def _five_bits(picture: Picture) -> Picture:
    """The five high bits of each component, and the highest of these again below them."""
    high = picture & 0xF8
    return (high | high >> 5).astype(np.uint8)


def fifteen_bits(script: Script) -> Difference:
    """The line of a script that shows 15 bits per pixel."""
    return Difference(
        script,
        "15 bits per pixel",
        "zeros for the missing low bits, its white is grey",
        "the high bits in place of the missing ones, as QEMU with 16 bits",
        "no document: full scale is white, as with 16 bits",
        (script,),
        _five_bits,
    )


DIFFERENCES: tuple[Difference, ...] = (
    fifteen_bits(Screen("15-bits", 15).script()),
    fifteen_bits(Screen("15-bits-virtual", 15, virtual=96, x=5, y=3).script()),
)
