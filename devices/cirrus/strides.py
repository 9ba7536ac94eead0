"""Rectangles of video memory as arrays, and memory that wraps at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

if TYPE_CHECKING:
    from devices.cirrus.rops import Rop, Units

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

UNITS: Final[dict[int, type[np.uint8 | np.uint16 | np.uint32]]] = {
    1: np.uint8,
    2: np.uint16,
    3: np.uint8,
    4: np.uint32,
}
"""By bytes per pixel: what memory is written in. 24-bit pixels are three bytes each."""


def in_units(memory: U8, pixel: int) -> Units:
    """View bytes as what pixels of so many bytes are written in."""
    units: Units = memory.view(UNITS[pixel])
    return units


def rectangle(memory: Units, start: int, stride: int, rows: int, count: int) -> Units:
    """View `rows` rows of `count` elements, `stride` elements apart, that lie inside `memory`."""
    step = memory.strides[0]
    if start < 0 or stride < 0 or start + (rows - 1) * stride + count > len(memory):
        raise ValueError(f"{rows} rows of {count} by {stride} from {start} leave the memory")
    return as_strided(memory[start:], (rows, count), (stride * step, step))


def distance(memory: U8, to: int, start: int) -> int:
    """How far `to` lies from `start` in bytes, the shorter way around the end of memory."""
    half = len(memory) // 2
    return (to - start + half) % len(memory) - half


def take(memory: U8, start: int, count: int) -> U8:
    """Bytes from `start` on, wrapping at the end of `memory`."""
    start %= len(memory)
    if start + count <= len(memory):
        return memory[start : start + count]
    return memory[np.arange(start, start + count) % len(memory)]


def paint(
    vram: U8, start: int, pitch: int, rows: int, values: Units, rop: Rop, mask: Mask | None = None
) -> None:
    """Combine values into rows of memory, top to bottom.

    `values`, and `mask` that says which of them count, have a row for each or one for all. Row r
    begins at byte `start` + r * `pitch`, rounded down to the size of an element; what reaches past
    the end of memory comes back at its start.
    """
    count = values.shape[1]
    if not count or not rows:
        return
    memory = in_units(vram, values.itemsize)
    unit = values.itemsize
    start &= len(vram) - 1
    first, stride = start // unit, pitch // unit
    if rows == 1:
        stride = count
    if (
        (rows == 1 or pitch % unit == 0)
        and stride >= count
        and first + (rows - 1) * stride + count <= len(memory)
    ):
        _combine(rectangle(memory, first, stride, rows, count), values, rop, mask)
        return
    for row in range(rows):
        at = (start + row * pitch & len(vram) - 1) // unit
        one = slice(row, row + 1) if len(values) > 1 else slice(None)
        row_mask = None if mask is None else mask[row : row + 1] if len(mask) > 1 else mask
        if at + count <= len(memory):
            _combine(memory[np.newaxis, at : at + count], values[one], rop, row_mask)
        else:
            wrapped = np.arange(at, at + count) & (len(memory) - 1)
            area = memory[np.newaxis, wrapped]
            _combine(area, values[one], rop, row_mask)
            memory[wrapped] = area[0]


def _combine(area: Units, values: Units, rop: Rop, mask: Mask | None) -> None:
    if mask is None:
        area[...] = rop(values, area)
    else:
        np.copyto(area, rop(values, area), where=mask)
