"""Reads the events of a recording of any format, block by block."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.traces.events import EVENT, Events, Foreign, Kind
from coalesced.tools.traces.formats import FORMATS, Format
from coalesced.tools.traces.scan import scan

APART = {
    Kind.OFFSET_RAM_DEVICE: "memory_region_ram_device",
    Kind.OFFSET_SUBPAGE: "memory_region_subpage",
}
_FIRST = Kind.OFFSET_RAM_DEVICE  # from here on: lines that are counted and not kept


@dataclass
class Names:
    """The names of regions, numbered in the order of their first use."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    _by_hash: dict[int, int] = field(default_factory=dict)

    def of(self, block: bytes, found: NDArray[np.void]) -> NDArray[np.int32]:
        """The numbers of the events' names; equal names have equal hashes."""
        names = found["name"]
        if (names == names[0]).all():
            return np.full(len(found), self._number(block, found[0]))
        hashes, first, which = np.unique(names, return_index=True, return_inverse=True)
        numbers = np.empty(len(hashes), np.int32)
        for index in np.argsort(first).tolist():
            numbers[index] = self._number(block, found[first[index]])
        return np.asarray(numbers[which.reshape(-1)])

    def _number(self, block: bytes, event: np.void) -> np.int32:
        start, length = int(event["name_start"]), int(event["name_length"])
        number = self._by_hash.get(int(event["name"]))
        if number is None:
            number = self.numbers.setdefault(block[start : start + length], len(self.numbers))
            self._by_hash[int(event["name"])] = number
        return np.int32(number)


class Reader:
    """Detects the format by the first block with an access, and counts lines of other kinds."""

    def __init__(self) -> None:
        self.format: Format | None = None
        self.names = Names()
        self.counts: Counter[Kind] = Counter()  # of lines that are counted and not kept
        self.foreign = 0
        self.first_foreign: Foreign | None = None
        self.lines = 0
        self._room = np.empty(0, EVENT)

    @property
    def apart(self) -> dict[str, int]:
        """By event: lines whose addresses are offsets."""
        return {name: self.counts[kind] for kind, name in APART.items() if self.counts[kind]}

    def read(self, block: bytes) -> Events:
        """The events of a block of whole lines."""
        self._make_room(block.count(b"\n") + 1)
        form = self.format or self._detected(block)
        events, lines, foreign, *first = scan(block, form.patterns, self._room)
        found = self._room[:events]
        kept = self._kept(found)
        name = self.names.of(block, kept) if len(kept) else np.empty(0, np.int32)
        result = Events.of(kept, name, self.lines)
        self._count_foreign(block, foreign, first)
        self.lines += lines
        return result

    def _make_room(self, lines: int) -> None:
        if len(self._room) < lines:
            self._room = np.empty(lines, EVENT)

    def _detected(self, block: bytes) -> Format:
        """The format of which the block has most events; the first one if it has none."""
        counts = [scan(block, form.patterns, self._room)[0] for form in FORMATS]
        best = FORMATS[int(np.argmax(counts))]
        if max(counts):
            self.format = best
        return best

    def _kept(self, found: NDArray[np.void]) -> NDArray[np.void]:
        kinds = np.bincount(found["kind"], minlength=len(Kind))
        for kind in Kind:
            if kind >= _FIRST and kinds[kind]:
                self.counts[kind] += int(kinds[kind])
        return found if not kinds[_FIRST:].any() else found[found["kind"] < _FIRST]

    def _count_foreign(self, block: bytes, foreign: int, first: list[int]) -> None:
        self.foreign += foreign
        if self.first_foreign is None and foreign:
            line, start, end = first
            self.first_foreign = Foreign(self.lines + line + 1, block[start:end])
