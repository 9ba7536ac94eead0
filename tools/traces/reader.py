"""Reads the events of a recording of any format, block by block."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.traces.events import EVENT, Events, Foreign, Kind
from coalesced.tools.traces.formats import FORMATS, Format
from coalesced.tools.traces.scan import scan
from coalesced.tools.traces.source import lines_of

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


class Scanned(NamedTuple):
    """The result of `scan` for a block."""

    found: NDArray[np.void]
    lines: int
    foreign: int
    first: list[int]


def scanned(block: bytes, form: Format) -> Scanned:
    """The events of a block, found anywhere."""
    room = np.empty(lines_of(block) + 1, EVENT)
    events, lines, foreign, *first = scan(block, form.patterns, room)
    return Scanned(room[:events], lines, foreign, first)


class Pool(Protocol):
    """Calls functions elsewhere: in threads, or on the workers of a cluster."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call it soon; the returned object has a method `result` that waits for it."""


@dataclass(frozen=True)
class Scanners:
    """A pool, and how many blocks it works on at once."""

    pool: Pool
    ahead: int


class Reader:
    """Detects the format by the first block with an access, and counts lines of other kinds."""

    def __init__(self) -> None:
        self.format: Format | None = None
        self.names = Names()
        self.counts: Counter[Kind] = Counter()  # of lines that are counted and not kept
        self.foreign = 0
        self.first_foreign: Foreign | None = None
        self.lines = 0
        self.is_cut = False

    def cut(self) -> None:
        """The file, a packed one, ended too early."""
        self.is_cut = True

    @property
    def apart(self) -> dict[str, int]:
        """By event: lines whose addresses are offsets."""
        return {name: self.counts[kind] for kind, name in APART.items() if self.counts[kind]}

    def read(self, blocks: Iterable[bytes], scanners: Scanners | None = None) -> Iterator[Events]:
        """The events of each block of whole lines; `scanners` work on the next blocks meanwhile."""
        if scanners is None:
            for block in blocks:
                yield self._events(block, scanned(block, self._format(block)))
            return
        waiting: deque[tuple[bytes, Any]] = deque()
        for block in blocks:
            waiting.append((block, scanners.pool.submit(scanned, block, self._format(block))))
            if len(waiting) > scanners.ahead:
                first, result = waiting.popleft()
                yield self._events(first, result.result())
        for first, result in waiting:
            yield self._events(first, result.result())

    def _events(self, block: bytes, done: Scanned) -> Events:
        kept = self._kept(done.found)
        name = self.names.of(block, kept) if len(kept) else np.empty(0, np.int32)
        result = Events.of(kept, name, self.lines)
        self._count_foreign(block, done.foreign, done.first)
        self.lines += done.lines
        return result

    def _format(self, block: bytes) -> Format:
        """The format of which the first block has most events; the first one if it has none."""
        if self.format is not None:
            return self.format
        counts = [len(scanned(block, form).found) for form in FORMATS]
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
