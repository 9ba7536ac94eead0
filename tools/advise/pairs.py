"""Finds in the values of a recording whether a register selects what its neighbour holds.

An index register has no effect of its own: it chooses what the data register beside it reads and
writes. So it may wait in a ring however long it waits: only an access to the data can tell whether
it has arrived, and that either exits, which drains the ring first, or is queued behind it. The data
shows it: it is the same again when the index is, and another one when the index is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.traces.events import NO_TIME, Kind, Mask, Positions, Words
from coalesced.vmm.zone import Zone

REACH: Final = 8  # bytes between an index and its data, on either side
SELDOM: Final = 0.1


@dataclass(frozen=True)
class Pair:
    """What follows the writes of a register, and how the values there depend on it."""

    followed: int = 0  # writes that another access of their thread follows
    beside: int = 0  # of these, by an access to a neighbour
    line: int | None = None  # the first of them
    read: int = 0  # of these, by a read
    polled: int = 0  # of these reads, those that a read of the same address follows
    continued: int = 0  # the neighbour's access goes on right behind it: a window
    values: int = 0  # different ones that were written
    answers: int = 0  # different values that were read beside it
    selecting: int = 0  # values of the index whose data was the same again, and not the last one
    same: int = 0  # reads of the data that was there under the same index
    changed: int = 0  # reads of other data, though it was not written since it was read
    echoes: bool = False  # the data is the index, or a constant apart
    late: int = 0  # writes that the next access followed after more than the limit
    late_line: int | None = None
    awaited: bool = False  # more than half of the writes of one value are late


class Pairs:
    """Finds the neighbours of a register."""

    def __init__(self, timeline: Timeline, pio: Mask, staleness: int) -> None:
        self.timeline = timeline
        self.staleness = staleness
        events = timeline.events
        self._valued = np.flatnonzero(events.is_access & (events.count == 1))
        address, port = events.address[self._valued], pio[self._valued]
        self._order = {
            kind: self._valued[port == kind][np.argsort(address[port == kind], kind="stable")]
            for kind in (False, True)
        }

    def of(self, zone: Zone, at: Positions) -> Pair:
        """The pair that a register of which these are the writes begins."""
        events, after = self.timeline.events, self.timeline.next_access
        at = at[after[at] >= 0]
        then = after[at]
        beside = self._beside(zone, then)
        if not beside.any():
            return Pair(followed=len(at))
        index, data = at[beside], then[beside]
        reads = events.is_read[data] | (events.kind[data] == Kind.LOAD_BEGINS)
        again = np.maximum(after[data], 0)
        goes_on = (after[data] >= 0) & (
            events.address[again] == events.address[data] + events.size[data]
        )
        pair = Pair(
            followed=len(at),
            beside=len(index),
            line=int(events.number[index[0]]),
            read=int(reads.sum()),
            polled=int((reads & self._same_read(data, again)).sum()),
            continued=int((goes_on & (events.address[again] != zone.address)).sum()),
            values=len(np.unique(events.value[at])),
        )
        return self._with_values(self._with_delays(pair, at, then), zone, at, data)

    def _beside(self, zone: Zone, then: Positions) -> Mask:
        """Which of these accesses go to a neighbour?"""
        events = self.timeline.events
        pio = np.isin(events.kind[then], (Kind.IN, Kind.OUT))
        distance = (events.address[then] - np.uint64(zone.address)).astype(np.int64)
        return np.asarray((pio == zone.pio) & (distance != 0) & (np.abs(distance) <= REACH))

    def _same_read(self, data: Positions, again: Positions) -> Mask:
        events = self.timeline.events
        reads = events.is_read[again] | (events.kind[again] == Kind.LOAD_BEGINS)
        return np.asarray(reads & (events.address[again] == events.address[data]))

    def _with_delays(self, pair: Pair, at: Positions, then: Positions) -> Pair:
        events = self.timeline.events
        known = (events.time[at] != NO_TIME) & (events.time[then] != NO_TIME)
        late = known & (events.time[then] - events.time[at] > self.staleness)
        if not late.any():
            return pair
        _, which, count = np.unique(events.value[at], return_inverse=True, return_counts=True)
        late_of = np.bincount(which.reshape(-1), late, len(count))
        awaited = (late_of >= 2) & (late_of * 2 > count)
        line = int(events.number[at[late][0]])
        return replace(pair, late=int(late.sum()), late_line=line, awaited=bool(awaited.any()))

    def _with_values(self, pair: Pair, zone: Zone, at: Positions, data: Positions) -> Pair:
        """Hold the values of the data against the index: the last one that was written."""
        events = self.timeline.events
        place, count = np.unique(events.address[data], return_counts=True)
        near = self._accesses(zone.pio, place[count >= SELDOM * len(data)])
        selector = np.searchsorted(at, near) - 1
        near, selector = near[selector >= 0], selector[selector >= 0]
        index, value = events.value[at[selector]], events.value[near]
        where, size = events.address[near], events.size[near]
        reads = events.is_read[near]
        before = _before(np.lexsort((near, size, where, index)), (index, where, size))
        last = _before(np.lexsort((near, size, where)), (where, size))
        known = reads & (before >= 0)
        same = known & (value[before] == value)
        chosen = same & (index[last] != index) & (value[last] != value)
        bits = np.uint64(64) - np.uint64(8) * size.astype(np.uint64)
        return replace(
            pair,
            answers=len(np.unique(value[reads])),
            selecting=len(np.unique(index[chosen])),
            same=int(same.sum()),
            changed=int((known & reads[before] & ~same).sum()),
            echoes=_constant((index << bits)[reads], (value - index << bits)[reads]),
        )

    def _accesses(self, pio: bool, places: Words) -> Positions:
        """The accesses to these addresses, in the order of the recording."""
        order = self._order[pio]
        address = self.timeline.events.address[order]
        first = np.searchsorted(address, places)
        end = np.searchsorted(address, places, side="right")
        parts = [order[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.intp)


def _before(order: Positions, keys: Sequence[NDArray[Any]]) -> Positions:
    """Per place: the place of the one before it that has the same keys, -1 if there is none."""
    found = np.full(len(order), -1, np.intp)
    equal = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        equal &= key[order[1:]] == key[order[:-1]]
    found[order[1:][equal]] = order[:-1][equal]
    return found


def _constant(index: Words, apart: Words) -> bool:
    """Is the difference of most indices and their data the same?"""
    if not len(index):
        return False
    pairs = np.unique(np.stack((index, apart)), axis=1)
    return bool(np.unique(pairs[1], return_counts=True)[1].max() * 2 > pairs.shape[1])
