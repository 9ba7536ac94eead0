"""Graphics modes: how the shift registers turn planes into pixel values (GR5 bits 6-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.vga.crtc import addresses
from coalesced.devices.vga.registers import GR5_SHIFT_256, GR5_SHIFT_INTERLEAVED, GR_MODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from coalesced.devices.vga.crtc import Geometry, Part
    from coalesced.devices.vga.registers import Registers

    Planes = NDArray[np.uint8]
    """Plane bytes as fetched, shape (lines, columns, 4)."""

_SPREAD_1: Final = np.array(
    [[byte >> (7 - dot) & 1 for dot in range(8)] for byte in range(256)], np.uint8
).view(np.uint64)[:, 0]
"""By byte: its eight bits, leftmost first, as the bytes of one word."""

_SPREAD_2: Final = np.array(
    [[byte >> (6 - 2 * dot) & 3 for dot in range(4)] for byte in range(256)], np.uint8
).view(np.uint32)[:, 0]
"""By byte: its four pairs of bits, leftmost first, as the bytes of one word."""


def shows_256_colors(r: Registers) -> bool:
    """Say whether pixels have 8 bits: GR5 bit 6 alone decides, as in QEMU.

    AR10 bit 6, which makes pairs of any dots into pixels of 8 bits on the chip, has no effect.
    """
    return bool(r.gr[GR_MODE] & GR5_SHIFT_256)


def draw_graphics(
    r: Registers, words: NDArray[np.uint32], shape: Geometry, part: Part
) -> NDArray[np.uint8]:
    """Draw a part's dots as pixel values of 4 or 8 bits, shape (lines, columns * 8).

    The address counter advances once per character clock; its slower rates (CR17 bit 3, CR14
    bit 5) have no effect, as in QEMU. Blinking in graphics modes does not exist either.
    """
    columns = shape.columns + (1 if part.pan else 0)
    cells = addresses(r, part, columns)
    # Scan lines that repeat are fetched and decoded once.
    keys = part.addresses << 5 | part.scans & 3
    _, kept, repeats = np.unique(keys, return_index=True, return_inverse=True)
    planes = words[cells[kept]].view(np.uint8).reshape(len(kept), columns, 4)
    decode: Callable[[Planes], Planes]
    if shows_256_colors(r):
        decode = _packed_256
    elif r.gr[GR_MODE] & GR5_SHIFT_INTERLEAVED:
        decode = _interleaved
    else:
        decode = _planar
    line = decode(planes).reshape(len(kept), columns * 8)
    return line[repeats, part.pan : part.pan + shape.columns * 8]


def _planar(planes: Planes) -> Planes:
    """One bit from each plane: 16 colours, or 2 with AR12 leaving one plane."""
    pixels = _SPREAD_1[planes[:, :, 0]]
    for plane in range(1, 4):
        pixels |= _SPREAD_1[planes[:, :, plane]] << np.uint64(plane)
    return pixels.view(np.uint8)


def _interleaved(planes: Planes) -> Planes:
    """CGA's 4 colours: pairs of bits, first from plane 0, then 1; planes 2 and 3 lie above them."""
    even = _SPREAD_2[planes[:, :, 0]] | _SPREAD_2[planes[:, :, 2]] << np.uint32(2)
    odd = _SPREAD_2[planes[:, :, 1]] | _SPREAD_2[planes[:, :, 3]] << np.uint32(2)
    return np.stack((even, odd), axis=-1).view(np.uint8)


def _packed_256(planes: Planes) -> Planes:
    """A byte from each plane in turn, two dots wide."""
    return planes.repeat(2, axis=-1)
