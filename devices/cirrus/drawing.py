"""Fills, patterns and colour expansion by the blitter: what is painted into each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from devices.cirrus.blit import Blit, Skip
from devices.cirrus.registers import GR33_INVERT_EXPANSION
from devices.cirrus.rops import rop_of
from devices.cirrus.strides import U8, UNITS, Mask, distance, paint, take

if TYPE_CHECKING:
    from devices.cirrus.rops import Units

PATTERN_ROWS: Final = 8
BAND: Final = 1 << 18
"""Elements that are worked out at a time."""
ALIGNMENT: Final = 3
"""At most so many bytes may a pixel begin before its address, when that is not aligned."""


def fill(vram: U8, b: Blit) -> None:
    """Fill a rectangle with the foreground colour."""
    pixels = -(-b.width // b.pixel)
    values = _color(b.foreground, b.pixel)[np.newaxis]
    row = np.tile(values, (1, pixels))
    paint(vram, b.dst, b.dst_pitch, b.height, row, rop_of(b.rop))


def color_pattern(vram: U8, b: Blit, source: U8, base: int, top: int, skip: Skip) -> None:
    """Tile a rectangle with 8 x 8 pixels at `base` of `source`; `top` is the first row's line.

    A line of 24-bit pixels takes 32 bytes.
    """
    pitch = 32 if b.pixel == 3 else PATTERN_ROWS * b.pixel
    dst = b.dst + skip.bytes
    count = max(0, -(-(b.width - skip.bytes) // b.pixel))
    rop = rop_of(b.rop)
    if source is vram and _overlaps(vram, b, base, PATTERN_ROWS * pitch + 96):
        for row in range(b.height):
            line = base + (top + row) % PATTERN_ROWS * pitch
            start = dst + row * b.dst_pitch
            for first, stop in _pattern_spans(distance(vram, line, start), b.pixel, count):
                phase = skip.pixels + first if first == 0 else (skip.pixels + first) % PATTERN_ROWS
                values = _pattern_line(source, line, b.pixel, phase, stop - first)
                paint(vram, start + first * b.pixel, 0, 1, values, rop)
        return
    lines = np.concatenate(
        [
            _pattern_line(source, base + line * pitch, b.pixel, skip.pixels, count)
            for line in range(PATTERN_ROWS)
        ]
    )
    for first, rows in _bands(b.height, count):
        order = (top + np.arange(first, first + rows)) % PATTERN_ROWS
        paint(vram, dst + first * b.dst_pitch, b.dst_pitch, rows, lines[order], rop)


def mono_pattern(
    vram: U8, b: Blit, source: U8, base: int, top: int, skip: Skip, *, transparent: bool
) -> None:
    """Tile a rectangle with 8 x 8 bits at `base` of `source`; `top` is the first row's line."""
    dst = b.dst + skip.bytes
    count = max(0, -(-(b.width - skip.bytes) // b.pixel))
    columns = (np.arange(count) + skip.pixels) % PATTERN_ROWS
    rop = rop_of(b.rop)
    live = source is vram and _overlaps(vram, b, base, PATTERN_ROWS)
    for row, rows in _bands(b.height, BAND if live else count):
        lines = (top + np.arange(row, row + rows)) % PATTERN_ROWS
        pattern = np.unpackbits(take(source, base, PATTERN_ROWS)).reshape(-1, 8).view(np.bool_)
        bits = pattern[lines][:, columns]
        values, mask = _expand(b, bits, transparent)
        if mask is not None and skip.pixels >= PATTERN_ROWS:
            mask[:, : b.pixel] = False  # only 24-bit skips reach so far: there is no such bit
        paint(vram, dst + row * b.dst_pitch, b.dst_pitch, rows, values, rop, mask)


def bytes_per_row(b: Blit, skip: Skip) -> int:
    """How many bytes of a monochrome source a row takes."""
    pixels = max(0, -(-(b.width - skip.bytes) // b.pixel))
    return max(1, (min(skip.pixels, 8) + pixels + 7) // 8)


def expand(vram: U8, b: Blit, source: U8, src: int, skip: Skip, *, transparent: bool) -> None:
    """Turn bits of `source` from `src` on into pixels; each row begins with a byte of its own."""
    size = bytes_per_row(b, skip)
    if source is vram and _overlaps(vram, b, src, size * b.height):
        for row in range(b.height):
            _expand_row(vram, b, src + row * size, row, skip, transparent)
        return
    for row, rows in _bands(b.height, size * 8):
        data = take(source, src + row * size, rows * size).reshape(rows, size)
        expand_rows(vram, b, row, data, skip, transparent=transparent)


def expand_rows(vram: U8, b: Blit, row: int, data: U8, skip: Skip, *, transparent: bool) -> None:
    """Expand `data`, a row of bytes for each of the destination's rows from `row` on."""
    count = max(0, -(-(b.width - skip.bytes) // b.pixel))
    first = min(skip.pixels, 8)
    bits = np.unpackbits(data, axis=1)[:, first : first + count].view(np.bool_)
    values, mask = _expand(b, bits, transparent)
    dst = b.dst + row * b.dst_pitch + skip.bytes
    paint(vram, dst, b.dst_pitch, len(data), values, rop_of(b.rop), mask)


def _expand_row(vram: U8, b: Blit, src: int, row: int, skip: Skip, transparent: bool) -> None:
    """Expand one row that may paint over bits before they are fetched."""
    dst = b.dst + row * b.dst_pitch + skip.bytes
    count = max(0, -(-(b.width - skip.bytes) // b.pixel))
    shift = min(skip.pixels, 8)
    size = (shift + count + 7) // 8
    apart = distance(vram, src, dst - shift * b.pixel)
    first = 0
    while first < size:
        stop = _fetch_ahead(apart, first, size, b)
        data = take(vram, src + first, stop - first)
        bits = np.unpackbits(data)[np.newaxis].view(np.bool_)
        skipped = shift if first == 0 else 0
        pixel = max(0, first * 8 - shift)
        bits = bits[:, skipped : skipped + count - pixel]
        values, mask = _expand(b, bits, transparent)
        paint(vram, dst + pixel * b.pixel, 0, 1, values, rop_of(b.rop), mask)
        first = stop


def _fetch_ahead(apart: int, first: int, size: int, b: Blit) -> int:
    """Up to which source byte (exclusive) bits may be fetched now without a difference.

    The first byte lies `apart` from the first pixel; byte i is fetched when 8 * i are painted.
    """
    per_byte = 8 * b.pixel
    behind = apart // (per_byte - 1) + 1  # painting has not yet come to these
    ahead = first * per_byte - ALIGNMENT - apart  # painting has left these behind
    beyond = size if apart + first + 1 >= (size * 8 + 8) * b.pixel else 0
    return min(size, max(first + 1, behind, ahead, beyond))


def _bands(height: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut a blit into (first row, rows) of at most about BAND elements: memory stays bounded."""
    rows = max(1, BAND // max(count, 1))
    for first in range(0, height, rows):
        yield first, min(rows, height - first)


def _overlaps(vram: U8, b: Blit, src: int, size: int) -> bool:
    """Say whether a blit may write to bytes [src, src + size), wrapping included."""
    low = b.dst - ALIGNMENT
    high = b.dst + (b.height - 1) * b.dst_pitch + b.width + 32 + ALIGNMENT
    if low < 0 or high > len(vram) or src + size > len(vram):
        return True
    return src < high and low < src + size


def _pattern_spans(apart: int, pixel: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut a row into [first, stop) pixels, single ones where it paints over its own pattern.

    The pattern's line lies `apart` bytes from the row.
    """
    first = min(count, max(0, apart // pixel - 2))
    stop = min(count, max(first, (apart + PATTERN_ROWS * pixel) // pixel + 3))
    yield 0, first
    for at in range(first, stop):
        yield at, at + 1
    yield stop, count


def _pattern_line(source: U8, line: int, pixel: int, first: int, count: int) -> Units:
    """One row of `count` pixels, beginning with the pattern's pixel `first` modulo 8."""
    pixels = take(source, line, PATTERN_ROWS * pixel).reshape(PATTERN_ROWS, pixel)
    row = pixels[(first + np.arange(count)) % PATTERN_ROWS]
    if first >= PATTERN_ROWS and count:
        # A skip of 24-bit pixels beyond the pattern: QEMU takes the first from behind its line.
        row[0] = take(source, line + first * pixel, pixel)
    return row.reshape(1, -1).view(UNITS[pixel])


def _expand(b: Blit, bits: Mask, transparent: bool) -> tuple[Units, Mask | None]:
    """Values of bits, and which of them count: all, or those that are not transparent."""
    if not transparent:
        background, foreground = _color(b.background, b.pixel), _color(b.foreground, b.pixel)
        units = bits.view(np.uint8).astype(background.dtype)
        if b.pixel == 3:
            units = units.repeat(3, axis=1)
            background = np.tile(background, bits.shape[1])
            foreground = np.tile(foreground, bits.shape[1])
        # A product is a quarter of the time of a look-up.
        return units * (foreground ^ background) ^ background, None
    color = b.foreground
    if b.extensions & GR33_INVERT_EXPANSION:
        bits = ~bits
        color = b.background
    row = np.tile(_color(color, b.pixel), bits.shape[1])[np.newaxis]
    return row, bits.repeat(3, axis=1) if b.pixel == 3 else bits


def _color(value: int, pixel: int) -> Units:
    """Return one pixel as the units that it is written in."""
    return np.frombuffer(value.to_bytes(4, "little")[:pixel], UNITS[pixel])
