"""The sixteen raster operations of the blitter (GR32)."""

from __future__ import annotations

from typing import Final

TRUTH: Final[dict[int, int]] = {
    0x00: 0b0000,
    0x05: 0b1000,  # source and destination
    0x06: 0b1010,  # destination
    0x09: 0b0100,  # source and not destination
    0x0B: 0b0101,  # not destination
    0x0D: 0b1100,  # source
    0x0E: 0b1111,
    0x50: 0b0010,  # not source and destination
    0x59: 0b0110,  # source exclusive-or destination
    0x6D: 0b1110,  # source or destination
    0x90: 0b0111,  # not (source and destination)
    0x95: 0b1001,  # not (source exclusive-or destination)
    0xAD: 0b1101,  # source or not destination
    0xD0: 0b0011,  # not source
    0xD6: 0b1011,  # not source or destination
    0xDA: 0b0001,  # not (source or destination)
}
"""By GR32 code: bit 2 * s + d is what source bit s and destination bit d become.

QEMU reads 0x90 as "not source or not destination", 0xda as the "and" of both.
"""

COPY_CODE: Final = 0x0D


def truth_of(code: int) -> int:
    """Return the operation of a GR32 code; a code that is none changes nothing, as in QEMU."""
    return TRUTH.get(code, 0b1010)
