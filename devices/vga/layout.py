"""Layout of addresses and bits in video memory, shared by reads and writes."""

from __future__ import annotations

from typing import Final

WINDOW_SIZE: Final = 0x20000
"""Bytes from 0xa0000 to 0xbffff."""

WINDOW_MAPS: Final = ((0x00000, 0x20000), (0x00000, 0x10000), (0x10000, 0x8000), (0x18000, 0x8000))
"""Where in the window GR6 bits 3-2 put video memory: (first offset, size)."""

BANKED_MAP: Final = 1
"""The map (64 KiB at 0xa0000) that a bank offset applies to."""

PLANES: Final = tuple(
    sum(0xFF << (8 * plane) for plane in range(4) if bits >> plane & 1) for bits in range(16)
)
"""A 4-bit plane mask spread to a byte per plane."""

REPEAT: Final = 0x01010101
"""Times a byte: the byte in every plane."""

ALL_PLANES: Final = 0xFFFFFFFF
