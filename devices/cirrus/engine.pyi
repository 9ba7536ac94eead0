"""The blitter's inner loops, in C. Addresses and strides are bytes; memory and sources wrap.

`rop` is a truth table: bit 2 * s + d is what source bit s and destination bit d give. Each raises
ValueError for arguments that no blit has.
"""

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Buffer = bytes | U8

def copy(
    memory: U8,
    source: Buffer,
    unit: int,
    width: int,
    height: int,
    dst: int,
    dst_stride: int,
    src: int,
    src_stride: int,
    rop: int,
    key: int,
    backwards: bool,
    /,
) -> None:
    """Combine a rectangle of units of 1 or 2 bytes into another; `key` -1: none is transparent."""

def expand(
    memory: U8,
    source: Buffer,
    pixel: int,
    count: int,
    height: int,
    dst: int,
    pitch: int,
    src: int,
    row_size: int,
    shift: int,
    rop: int,
    foreground: int,
    background: int,
    transparent: bool,
    invert: bool,
    /,
) -> None:
    """Turn rows of bits into pixels; `shift` bits of each row are left out."""

def tile_bits(
    memory: U8,
    source: Buffer,
    pixel: int,
    count: int,
    height: int,
    dst: int,
    pitch: int,
    src: int,
    top: int,
    column: int,
    rop: int,
    foreground: int,
    background: int,
    transparent: bool,
    invert: bool,
    /,
) -> None:
    """Tile a rectangle with 8 x 8 bits; the first row shows line `top`, `column` first."""

def tile_pixels(
    memory: U8,
    source: Buffer,
    pixel: int,
    count: int,
    height: int,
    dst: int,
    pitch: int,
    src: int,
    top: int,
    skip: int,
    rop: int,
    foreground: int,
    background: int,
    transparent: bool,
    invert: bool,
    /,
) -> None:
    """Tile a rectangle with 8 x 8 pixels; colours and what follows them do not count."""
