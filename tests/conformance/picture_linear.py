"""Ways to write picture scripts for cards on PCI with linear video memory."""

from __future__ import annotations

from conformance_script import Lines
from picture_modes import pattern

FRAMEBUFFER = 0xE000_0000
_ADDRESS = 0xCF8
_DATA = 0xCFC
_SLOT_2 = 0x8000_1000


def map_card(lines: Lines) -> None:
    """Put BAR 0 of the card in slot 2 at `FRAMEBUFFER` and let it answer."""
    for offset, value in ((0x10, FRAMEBUFFER), (0x04, 0x0007)):
        lines.out(_ADDRESS, _SLOT_2 | offset, 4)
        lines.out(_DATA, value, 4)


def fill_at(lines: Lines, *places: int, size: int = 0x1000) -> None:
    """A different pattern at each place of video memory."""
    for number, place in enumerate(places):
        lines.write(FRAMEBUFFER + place, pattern(size, 2 * number + 3, 17 * number + 1))
