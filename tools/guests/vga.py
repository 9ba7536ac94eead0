"""A guest that draws in planar VGA: an evening by the sea, or a given picture."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.mode12h import (
    GR_BIT_MASK,
    GR_ENABLE_SET_RESET,
    GR_MODE,
    GR_SET_RESET,
    HEIGHT,
    STRIDE,
    WIDTH,
    WINDOW,
    graphics,
    map_mask,
    set_mode,
)

# Red, green, blue of 6 bits: sky from night to dusk, then sun, hills, sea, letters.
PALETTE: Final = bytes.fromhex(
    "020310 06081c 0c0e28 161231 221537 321a38 3f2434 3f3428"
    "3f3c1c 3f3f30 0a0612 140a1a 040818 081426 10223a 3f3f3f"
)
SUN, SUN_CORE, FAR_HILLS, HILLS, DEEP, SEA, FOAM, WHITE = range(8, 16)
SKY: Final = range(8)
HORIZON: Final = 320

# 8 x 8 letters, a byte per line, leftmost dot in bit 7.
_LETTERS: Final = {
    "o": "00003c6666663c00",
    "n": "00007c6666666600",
    "e": "00003c667e603c00",
    "r": "00006c7660606000",
    "i": "1800381818183c00",
    "g": "00003e66663e063c",
    "w": "0000636b7f3e3600",
    "t": "1818 7e18181a0c00".replace(" ", ""),
    "p": "00007c66667c6060",
    "c": "00003c6660663c00",
    "s": "00003e603c067c00",
    ",": "0000000000181830",
    " ": "0000000000000000",
}


def draw(vcpu: Vcpu) -> None:
    """Draw with write modes 0 (sky), 3 (sun, letters), 2 (hills) and 1 (the sea's mirror)."""
    set_mode(vcpu, PALETTE)
    _sky(vcpu)
    _sun(vcpu, 400, 250, 70)
    _hills(vcpu, FAR_HILLS, 268, 26, 97.0)
    _hills(vcpu, HILLS, 292, 20, 61.0)
    _mirror(vcpu)
    _waves(vcpu)
    _letters(vcpu, "two processes, one ring", 8, 28)
    graphics(vcpu, GR_MODE, 0)
    graphics(vcpu, GR_BIT_MASK, 0xFF)


def draw_image(vcpu: Vcpu, address: int) -> None:
    """Draw the picture at `address` of guest RAM: 48 bytes of palette, then four planes."""
    palette = bytes(vcpu.read_memory(address, 48))
    size = STRIDE * HEIGHT
    planes = [vcpu.read_memory(address + 48 + plane * size, size) for plane in range(4)]
    set_mode(vcpu, palette)
    addresses = WINDOW + np.arange(size, dtype=np.uint64)
    for plane, data in enumerate(planes):
        map_mask(vcpu, 1 << plane)
        vcpu.store_many(addresses, np.frombuffer(data, dtype=np.uint8))
    map_mask(vcpu, 0x0F)


def _line(y: int) -> int:
    return WINDOW + y * STRIDE


def _sky(vcpu: Vcpu) -> None:
    """Write mode 0, a plane at a time: bands of two colours, dithered into each other."""
    rows = np.arange(HORIZON)
    place = rows / HORIZON * (len(SKY) - 1)
    lower = place.astype(np.uint8)
    share = place - lower
    patterns = np.array([0x00, 0x88, 0x8A, 0xAA, 0xEA, 0xEE, 0xFE, 0xFF], dtype=np.uint8)
    mixed = patterns[(share * 7.999).astype(int)]
    mixed = np.where(rows % 2, mixed, mixed >> 1 | (mixed & 1) << 7).astype(np.uint8)
    addresses = WINDOW + np.arange(HORIZON * STRIDE, dtype=np.uint64)
    for plane in range(4):
        first = ((lower >> plane) & 1) * 0xFF
        second = (((lower + 1).clip(max=SKY[-1]) >> plane) & 1) * 0xFF
        data = (first & ~mixed) | (second & mixed)
        map_mask(vcpu, 1 << plane)
        vcpu.store_many(addresses, np.repeat(data.astype(np.uint64), STRIDE))
    map_mask(vcpu, 0x0F)


def _sun(vcpu: Vcpu, x: int, y: int, radius: int) -> None:
    """Write mode 3: the data byte is the mask, the set/reset register the colour."""
    graphics(vcpu, GR_MODE, 3)
    for colour, r in ((SUN, radius), (SUN_CORE, radius - 12)):
        graphics(vcpu, GR_SET_RESET, colour)
        for row in range(y - r, min(y + r + 1, HORIZON)):
            half = math.isqrt(r * r - (row - y) ** 2)
            _span(vcpu, row, x - half, x + half)


def _span(vcpu: Vcpu, row: int, left: int, right: int) -> None:
    """Dots left..right of a row in write mode 3; the edges keep their other dots."""
    first, last = left // 8, right // 8
    start, stop = 0xFF >> left % 8, 0xFF << 7 - right % 8 & 0xFF
    if first == last:
        start &= stop
    for column, mask in {last: stop, first: start}.items():
        vcpu.load8(_line(row) + column)  # the latches hold what the mask leaves alone
        vcpu.store8(_line(row) + column, mask)
    if last - first > 1:
        vcpu.fill(_line(row) + first + 1, last - first - 1, 0xFF)


def _hills(vcpu: Vcpu, colour: int, base: int, height: int, period: float) -> None:
    """Write mode 2: the data byte is the colour. Whole bytes, then the ridge dot by dot."""
    x = np.arange(WIDTH)
    ridge = base - height * np.sin(x / period) - height / 2 * np.sin(x / period * 2.7 + 1)
    tops = ridge.astype(int)
    solid = tops.reshape(STRIDE, 8).max(axis=1)
    graphics(vcpu, GR_MODE, 2)
    addresses = np.concatenate(
        [_line(0) + column + STRIDE * np.arange(solid[column], HORIZON) for column in range(STRIDE)]
    )
    vcpu.store_many(addresses, colour)
    for column in range(STRIDE):
        for row in range(int(tops[column * 8 : column * 8 + 8].min()), int(solid[column])):
            mask = _mask(tops[column * 8 : column * 8 + 8] <= row)
            graphics(vcpu, GR_BIT_MASK, mask)
            vcpu.load8(_line(row) + column)
            vcpu.store8(_line(row) + column, colour)
    graphics(vcpu, GR_BIT_MASK, 0xFF)


def _mask(dots: NDArray[np.bool_]) -> int:
    return int(np.packbits(dots)[0])


def _mirror(vcpu: Vcpu) -> None:
    """Write mode 1: a load takes eight dots of four planes into the latches, a store puts them."""
    graphics(vcpu, GR_MODE, 1)
    for row in range(HORIZON, HEIGHT, 4):
        source = HORIZON - 1 - (row - HORIZON) * 9 // 10
        for column in range(STRIDE):
            vcpu.load8(_line(source) + column)
            vcpu.store8(_line(row) + column, 0)


def _waves(vcpu: Vcpu) -> None:
    """Write mode 0 with set/reset: the sea between the mirrored rows."""
    graphics(vcpu, GR_MODE, 0)
    graphics(vcpu, GR_ENABLE_SET_RESET, 0x0F)
    for row in range(HORIZON, HEIGHT):
        if (row - HORIZON) % 4:
            colour = DEEP if (row // 3) % 3 else SEA
            graphics(vcpu, GR_SET_RESET, FOAM if row == HORIZON + 1 else colour)
            vcpu.fill(_line(row), STRIDE, 0)
    graphics(vcpu, GR_ENABLE_SET_RESET, 0)


def _letters(vcpu: Vcpu, text: str, column: int, row: int) -> None:
    """Write mode 3: each line of a letter is the mask of its dots, two screen lines high."""
    graphics(vcpu, GR_MODE, 3)
    graphics(vcpu, GR_SET_RESET, WHITE)
    for place, letter in enumerate(text):
        for line, dots in enumerate(bytes.fromhex(_LETTERS[letter])):
            if not dots:
                continue
            for repeat in (0, 1):
                address = _line(row + 2 * line + repeat) + column + place
                vcpu.load8(address)
                vcpu.store8(address, dots)
