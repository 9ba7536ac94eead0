"""The sixteen raster operations of the blitter (GR32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.unsignedinteger[Any]]
"""Bytes, words or double words of video memory, any shape."""
Rop = Callable[[Units, Units], Units]
"""`rop(source, destination)`: what the destination becomes, bit by bit; operands broadcast."""


def _zero(source: Units, destination: Units) -> Units:
    return np.zeros_like(destination)


def _one(source: Units, destination: Units) -> Units:
    return ~np.zeros_like(destination)


def _source(source: Units, destination: Units) -> Units:
    return source


def _destination(source: Units, destination: Units) -> Units:
    return destination


ROPS: Final[dict[int, Rop]] = {
    0x00: _zero,
    0x05: lambda s, d: s & d,
    0x06: _destination,
    0x09: lambda s, d: s & ~d,
    0x0B: lambda s, d: ~d,
    0x0D: _source,
    0x0E: _one,
    0x50: lambda s, d: ~s & d,
    0x59: lambda s, d: s ^ d,
    0x6D: lambda s, d: s | d,
    0x90: lambda s, d: ~(s & d),
    0x95: lambda s, d: ~(s ^ d),
    0xAD: lambda s, d: s | ~d,
    0xD0: lambda s, d: ~s,
    0xD6: lambda s, d: ~s | d,
    0xDA: lambda s, d: ~(s | d),
}
"""By GR32 code. QEMU reads 0x90 as "not source or not destination", 0xda as the "and" of both."""

COPY_CODE: Final = 0x0D


def rop_of(code: int) -> Rop:
    """Return the operation of a GR32 code; a code that is none changes nothing, as in QEMU."""
    return ROPS.get(code, _destination)
