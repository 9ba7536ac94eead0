"""Copies by the blitter, exact where source and destination overlap.

The engine works byte by byte, or by two bytes when a 16-bit colour is transparent. A copy that
runs into its own source therefore reads what it wrote before; drivers rely on it to repeat things.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from devices.cirrus.strides import U8, in_units, rectangle

if TYPE_CHECKING:
    from devices.cirrus.rops import Rop, Units

SHORT_DISTANCE: Final = 64
"""Below so many units between what is read and written, repeating steps cost too much."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A rectangle to be combined into another, row by row from its lowest unit up."""

    width: int
    """Units per row."""
    height: int
    dst: int
    """Byte address; a unit begins at the next lower multiple of its size."""
    dst_stride: int
    """Bytes from row to row, 0 or more."""
    src: int
    src_stride: int
    rop: Rop
    unit: int = 1
    """Bytes per unit, 1 or 2."""
    key: int | None = None
    """The transparent colour: a unit that would become it stays as it is."""


def copy(memory: U8, source: U8, c: Copy) -> None:
    """Copy forwards; `source` is `memory` itself or another array. Both wrap at their ends."""
    target = in_units(memory, c.unit)
    _copy(target, target if source is memory else in_units(source, c.unit), c)


def copy_backwards(memory: U8, source: U8, c: Copy) -> None:
    """Copy from the last unit of each row down, and strides count downwards.

    `dst` and `src` are the last bytes of the first row to be copied. This is a forward copy in
    memories that are looked at from their ends.
    """
    target = in_units(memory, c.unit)[::-1]
    # Two bytes end where they begin in the mirror, hence the address rounded up to them there.
    mirrored = replace(
        c,
        dst=len(memory) - 1 - c.dst + c.unit - 1,
        src=len(source) - 1 - c.src + c.unit - 1,
    )
    origin = target if source is memory else in_units(source, c.unit)[::-1]
    _copy(target, origin, mirrored)


def _copy(memory: Units, source: Units, c: Copy) -> None:
    dst, dst_stride = c.dst // c.unit % len(memory), c.dst_stride // c.unit
    src, src_stride = c.src // c.unit % len(source), c.src_stride // c.unit
    even = c.dst_stride % c.unit == 0 and c.src_stride % c.unit == 0
    if c.height == 1:
        even, dst_stride, src_stride = True, c.width, c.width
    if even and _is_one_step(memory, source, c, dst, dst_stride, src, src_stride):
        area = rectangle(memory, dst, dst_stride, c.height, c.width)
        origin = rectangle(source, src, src_stride, c.height, c.width)
        _store(area, c.rop(origin, area), c.key)
        return
    for row in range(c.height):
        at = (c.dst + row * c.dst_stride) // c.unit % len(memory)
        origin_at = (c.src + row * c.src_stride) // c.unit % len(source)
        _copy_row(memory, source, at, origin_at, c)


def _is_one_step(
    memory: Units, source: Units, c: Copy, dst: int, dst_stride: int, src: int, src_stride: int
) -> bool:
    """Say whether no unit is read after it was written, so that order does not matter."""
    dst_end = dst + (c.height - 1) * dst_stride + c.width
    src_end = src + (c.height - 1) * src_stride + c.width
    if dst_end > len(memory) or src_end > len(source) or dst_stride < c.width:
        return False
    if source is not memory or dst_end <= src or src_end <= dst:
        return True
    return dst <= src and dst_stride == src_stride


def _copy_row(memory: Units, source: Units, dst: int, src: int, c: Copy) -> None:
    width = c.width
    wraps = dst + width > len(memory) or src + width > len(source)
    distance = (dst - src) % len(memory)
    onto_itself = source is memory and 0 < distance < width
    if wraps and onto_itself:
        span = np.arange(src, src + distance + width) % len(memory)
        straight = memory[span]
        _copy_row(straight, straight, distance, 0, c)
        memory[span[distance:]] = straight[distance:]
    elif wraps:
        _copy_in_steps(memory, source, dst, src, width, c)
    elif not onto_itself:
        area = memory[dst : dst + width]
        _store(area, c.rop(source[src : src + width], area), c.key)
    elif c.key is None:
        _chain(memory, dst, distance, c)
    elif distance >= SHORT_DISTANCE:
        _copy_in_steps(memory, source, dst, src, distance, c)
    else:
        _copy_unit_by_unit(memory, dst, src, c)


def _store(area: Units, result: Units, key: int | None) -> None:
    """Store units but for those of the transparent colour."""
    if key is None:
        area[...] = result
    else:
        np.copyto(area, result, where=result != key)


def _chain(memory: Units, dst: int, distance: int, c: Copy) -> None:
    """Copy a row onto itself `distance` units further: each unit builds on one just written.

    Every raster operation is, for a given destination, (source and A) exclusive-or B. Such steps
    compose, so that after k doublings each unit depends on the 2**k-th before it.
    """
    width = c.width
    rows = -(-width // distance)
    old = np.zeros(rows * distance, memory.dtype)
    old[:width] = memory[dst : dst + width]
    zeros = np.zeros_like(old)
    b = c.rop(zeros, old).reshape(rows, distance).copy()
    a = (c.rop(~zeros, old) ^ c.rop(zeros, old)).reshape(rows, distance)
    step = 1
    while step < rows:
        b[step:] ^= b[:-step] & a[step:]
        a[step:] = a[:-step] & a[step:]
        step *= 2
    first = memory[dst - distance : dst]
    memory[dst : dst + width] = ((first & a) ^ b).reshape(-1)[:width]


def _copy_in_steps(memory: Units, source: Units, dst: int, src: int, step: int, c: Copy) -> None:
    """Copy a row by `step` units at a time, wrapping where memory ends."""
    for done in range(0, c.width, step):
        span = np.arange(done, min(done + step, c.width))
        at = (dst + span) % len(memory)
        area = memory[at]
        _store(area, c.rop(source[(src + span) % len(source)], area), c.key)
        memory[at] = area


def _copy_unit_by_unit(memory: Units, dst: int, src: int, c: Copy) -> None:
    """Copy a row within `memory` one unit after the other, which its transparency asks for.

    Runs of plain integers: this is twenty times as fast as arrays of one element.
    """
    width = c.width
    values = memory[src : dst + width].tolist()
    distance = dst - src
    old = memory[dst : dst + width]
    kind = memory.dtype.type
    zero = np.zeros(width, kind)
    base = c.rop(zero, old).tolist()
    flips = (c.rop(~zero, old) ^ c.rop(zero, old)).tolist()
    key = c.key
    for at in range(width):
        result = values[at] & flips[at] ^ base[at]
        if result != key:
            values[at + distance] = result
    memory[dst : dst + width] = values[distance:]
