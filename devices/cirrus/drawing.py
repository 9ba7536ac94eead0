"""Blits as calls of the engine's inner loops: copies, fills, patterns, colour expansion.

A blit may touch 64 million bytes, rows over rows. It goes in bands, so that a signal such as Ctrl-C
is served meanwhile; the register write that started it returns when all is done, as in QEMU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coalesced.devices.cirrus import engine
from coalesced.devices.cirrus.registers import (
    GR30_BACKWARDS,
    GR30_COLOR_EXPAND,
    GR30_PATTERN,
    GR30_TRANSPARENT,
    GR33_INVERT_EXPANSION,
)
from coalesced.devices.cirrus.rops import truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coalesced.devices.cirrus.blit import Blit, Skip
    from coalesced.devices.cirrus.engine import U8, Buffer

BAND: Final = 1 << 21
"""Bytes of the destination that are worked on at a time, some milliseconds."""
PATTERN_ROWS: Final = 8
_ONES: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Side:
    """The starts of the rows of a copy's source or destination."""

    start: int
    stride: int
    """Bytes from row to row: downwards in a backward copy."""


def unit_of(b: Blit) -> int:
    """Bytes that are copied at a time: one, or a pixel if a colour is transparent."""
    return b.pixel if b.mode & GR30_TRANSPARENT else 1


def copy(vram: U8, b: Blit, to: Side, source: Buffer, origin: Side, height: int, key: int) -> None:
    """Copy rows of a blit's width; `key`: the transparent colour, or -1."""
    unit = unit_of(b)
    backwards = bool(b.mode & GR30_BACKWARDS)
    for row, rows in _bands(height, b.width):
        done = -row if backwards else row
        dst, src = to.start + done * to.stride, origin.start + done * origin.stride
        shape = unit, -(-b.width // unit), rows, dst, to.stride, src, origin.stride
        engine.copy(vram, source, *shape, truth_of(b.rop), key, backwards)


def fill(vram: U8, b: Blit) -> None:
    """Fill a rectangle with the foreground colour."""
    count = -(-b.width // b.pixel)
    for row, rows in _bands(b.height, b.width):
        dst = b.dst + row * b.dst_pitch
        color = b.foreground
        shape = b.pixel, count, rows, dst, b.dst_pitch
        engine.tile_bits(vram, _ONES, *shape, 0, 0, 0, truth_of(b.rop), color, color, False, False)


def color_pattern(vram: U8, b: Blit, source: Buffer, base: int, top: int, skip: Skip) -> None:
    """Tile a rectangle with 8 x 8 pixels at `base` of `source`; `top` is the first row's line.

    A line of 24-bit pixels takes 32 bytes.
    """
    count, dst = _columns(b, skip), b.dst + skip.bytes
    for row, rows in _bands(b.height, b.width):
        shape = b.pixel, count, rows, dst + row * b.dst_pitch, b.dst_pitch
        line = (top + row) % PATTERN_ROWS
        engine.tile_pixels(
            vram, source, *shape, base, line, skip.pixels, truth_of(b.rop), 0, 0, False, False
        )


def mono_pattern(vram: U8, b: Blit, source: Buffer, base: int, top: int, skip: Skip) -> None:
    """Tile a rectangle with 8 x 8 bits at `base` of `source`; `top` is the first row's line."""
    count, dst, column = _columns(b, skip), b.dst + skip.bytes, skip.pixels
    if column >= PATTERN_ROWS and count:
        # Only 24-bit skips reach so far: there is no such bit, and the first pixel stays.
        count, dst, column = count - 1, dst + b.pixel, column + 1
    for row, rows in _bands(b.height, b.width):
        shape = b.pixel, count, rows, dst + row * b.dst_pitch, b.dst_pitch
        line = (top + row) % PATTERN_ROWS
        engine.tile_bits(vram, source, *shape, base, line, column % 8, *_colors(b))


def bytes_per_row(b: Blit, skip: Skip) -> int:
    """Number of bytes of a monochrome source for one row."""
    return max(1, (min(skip.pixels, 8) + _columns(b, skip) + 7) // 8)


def expand(vram: U8, b: Blit, source: Buffer, src: int, skip: Skip, rows: range, size: int) -> None:
    """Turn bits into pixels of rows of the blit; each takes `size` bytes from `src` on."""
    count, dst = _columns(b, skip), b.dst + skip.bytes
    for row, height in _bands(len(rows), b.width):
        shape = b.pixel, count, height, dst + (rows.start + row) * b.dst_pitch, b.dst_pitch
        shift = min(skip.pixels, 8)
        engine.expand(vram, source, *shape, src + row * size, size, shift, *_colors(b))


def is_pattern(b: Blit) -> bool:
    """Say whether a blit tiles 8 x 8 pixels or bits."""
    return bool(b.mode & GR30_PATTERN)


def is_expansion(b: Blit) -> bool:
    """Say whether a blit takes bits and turns them into pixels."""
    return bool(b.mode & GR30_COLOR_EXPAND)


def _columns(b: Blit, skip: Skip) -> int:
    return max(0, -(-(b.width - skip.bytes) // b.pixel))


def _colors(b: Blit) -> tuple[int, int, int, bool, bool]:
    """Raster operation, colours of ones and zeros, and whether zeros or ones stay as they are."""
    rop = truth_of(b.rop)
    if not b.mode & GR30_TRANSPARENT:
        return rop, b.foreground, b.background, False, False
    if b.extensions & GR33_INVERT_EXPANSION:
        return rop, b.background, 0, True, True
    return rop, b.foreground, 0, True, False


def _bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut rows into (first row, rows) of at most BAND bytes, one row at least."""
    most = max(1, BAND // width)
    for first in range(0, height, most):
        yield first, min(most, height - first)
