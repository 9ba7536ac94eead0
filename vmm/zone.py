"""Ranges whose writes are queued: those that devices declare, and those that a user chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # options are read before a core is chosen, and the client loads one
    from coalesced.hv.client import Range


@dataclass(frozen=True, order=True)
class Zone:
    """A range of addresses whose writes are queued."""

    pio: bool
    address: int
    size: int

    def __str__(self) -> str:
        return f"{'pio:' if self.pio else ''}{self.address:#x}+{self.size:#x}"

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size

    def holds(self, other: Zone) -> bool:
        """Whether the other zone lies in this one."""
        return self.pio == other.pio and self.address <= other.address and other.end <= self.end


@dataclass(frozen=True)
class Choice:
    """`declared`: whether what devices declare counts. `removed` prevails over `posted`, and this
    over `added`."""

    declared: bool = True
    added: tuple[Zone, ...] = ()
    removed: tuple[Zone, ...] = ()
    posted: tuple[Zone, ...] = ()

    def of(self, pio: bool, declared: list[Range]) -> list[Range]:
        """The ranges to queue, in ascending order; no two overlap."""
        return self._chosen(pio, declared, self.added)

    def posted_of(self, pio: bool, declared: list[Range]) -> list[Range]:
        """The ranges whose queued writes wake the VMM."""
        return self._chosen(pio, declared, self.posted)

    def _chosen(self, pio: bool, declared: list[Range], zones: tuple[Zone, ...]) -> list[Range]:
        added = [(zone.address, zone.size) for zone in zones if zone.pio == pio]
        found = [*(declared if self.declared else []), *added]
        if added:
            found = _merged(found)
        removed = [(zone.address, zone.size) for zone in self.removed if zone.pio == pio]
        return without(found, removed)


AS_DECLARED: Final = Choice()


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Overlapping ranges as one: unregistering a zone takes along those that contain it."""
    merged: list[Range] = []
    for start, size in sorted(ranges):
        if merged and start < sum(merged[-1]):
            first, last = merged[-1][0], sum(merged[-1])
            merged[-1] = (first, max(last, start + size) - first)
        else:
            merged.append((start, size))
    return merged


def without(ranges: list[Range], removed: Iterable[Range]) -> list[Range]:
    """Subtract ranges from ranges."""
    for start, size in removed:
        ranges = [part for each in ranges for part in _beside(each, start, start + size)]
    return ranges


def _beside(one: Range, start: int, end: int) -> list[Range]:
    """The parts of a range that lie below `start` and from `end` on."""
    first, last = one[0], sum(one)
    parts = ((first, min(last, start)), (max(first, end), last))
    return [(low, high - low) for low, high in parts if low < high]
