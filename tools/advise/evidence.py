"""Measures, per range of registers, what its writes do: from the recording alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from coalesced.devices.i440fx import CONFIG_ADDRESS, CONFIG_DATA
from coalesced.tools.advise.pairs import Pair, Pairs
from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.advise.zones import in_kernel, inside
from coalesced.tools.traces.events import NO_TIME, Events, Kind, Mask, Positions, Words
from coalesced.vmm.zone import Zone

WINDOW_LEAST: Final = 64  # addresses of a range that is taken for memory
WINDOW_GAP: Final = 32
STEP_MAX: Final = 256  # of a counter or a ring's tail
# Of PCI's configuration space: command, BARs, a bridge's windows, the ROM.
MAPPING_REGISTERS: Final = (0x04, *range(0x10, 0x34, 4))


@dataclass(frozen=True)
class Waits:
    """Nanoseconds from a write to the next access that drains the ring."""

    p50: int
    p99: int
    max: int


@dataclass(frozen=True)
class Counted:
    """How often something was seen, and the line that shows it first."""

    count: int
    line: int | None


@dataclass(frozen=True)
class Evidence:
    """What a range's writes were seen to do. Shares are of its single writes."""

    zone: Zone
    name: int  # of the region, in the recording
    in_force: bool  # its writes are in a zone already
    addresses: int
    writes: int
    strings: int
    reads: int
    exits: int
    first_line: int
    waits: Waits | None
    longest: Counted  # the line of the write that waited longest
    to_next: Waits | None  # to the next access of the same thread
    pair: Pair
    only_value: int | None  # of all writes
    same_back: int  # reads of the value that was written
    other_back: Counted
    repeated: Counted  # followed by a write of another value to the same address
    counting: Counted  # one small step above the last value written there
    in_range: int  # followed by a write to the same range
    before_window: Counted
    mapping: Counted
    no_successor: int  # the last of their thread
    never_exits: bool  # though the recording tells exits, and no zone explains it


def is_window(found: Evidence) -> bool:
    """Is the range taken for memory?"""
    return not found.zone.pio and found.addresses >= WINDOW_LEAST


def ranges(timeline: Timeline) -> list[Zone]:
    """The ranges that are written: windows of memory, and single registers."""
    events = timeline.events
    found = []
    for pio, kind in ((False, Kind.STORE), (True, Kind.OUT)):
        which = (events.kind == kind) & ~in_kernel(timeline)
        starts, index = np.unique(events.address[which], return_inverse=True)
        size = np.zeros(len(starts), np.int64)
        np.maximum.at(size, index.reshape(-1), events.size[which].astype(np.int64))
        found += _clusters(pio, starts, size)
    return found


def _clusters(pio: bool, starts: Positions, size: Positions) -> list[Zone]:
    """Neighbours that are many enough for a window in one range, others alone."""
    new = np.append(True, np.diff(starts) > WINDOW_GAP)[: len(starts)]
    first = np.flatnonzero(new)
    found = []
    for a, b in zip(first, np.append(first[1:], len(starts)), strict=False):
        if not pio and b - a >= WINDOW_LEAST:
            end = int(starts[b - 1]) + int(size[b - 1])
            found.append(Zone(pio, int(starts[a]), end - int(starts[a])))
        else:
            found += [Zone(pio, int(starts[n]), int(size[n])) for n in range(a, b)]
    return found


class Measured:
    """What is known of each event, computed for all at once."""

    def __init__(
        self, timeline: Timeline, in_force: Sequence[Zone] = (), staleness: int = 0
    ) -> None:
        """`staleness`: the nanoseconds after which what follows a write is late."""
        events = timeline.events
        self.timeline = timeline
        self.in_force = inside(events, in_force)
        self.ranges = ranges(timeline)
        self.pio = np.isin(events.kind, (Kind.IN, Kind.OUT))
        self.range = self._range_of()
        self.is_window = np.array(
            [not z.pio and z.size >= WINDOW_LEAST for z in self.ranges] + [False]
        )
        self.single = events.is_write & (events.count == 1) & (self.range >= 0)
        self.next = timeline.next_access
        self.last_value, self.written_before = _last_written(events, self.pio)
        self.read_known, self.read_other = _read_back(events, self.pio)
        self.same_next = (self.next >= 0) & (self.range[self.next] == self.range)
        self.mapping = self._mapping()
        self.pairs = Pairs(timeline, self.pio, staleness)
        self._order = np.argsort(self.range, kind="stable")
        self._bounds = np.searchsorted(self.range[self._order], np.arange(len(self.ranges) + 1))

    def _range_of(self) -> Positions:
        """Per event: the range that it touches, -1 none."""
        events = self.timeline.events
        result = np.full(len(events), -1, np.intp)
        touches = events.is_access | (events.kind == Kind.LOAD_BEGINS)
        for pio in (False, True):
            own = [n for n, zone in enumerate(self.ranges) if zone.pio == pio]
            if not own:
                continue
            starts = np.array([self.ranges[n].address for n in own], np.uint64)
            sizes = np.array([self.ranges[n].size for n in own], np.uint64)
            index = np.searchsorted(starts, events.address, side="right") - 1
            near = np.maximum(index, 0)
            good = (index >= 0) & (events.address - starts[near] < sizes[near])
            good &= touches & (self.pio == pio)
            result[good] = np.array(own)[near[good]]
        return result

    def _mapping(self) -> Mask:
        """Per event: a write of PCI's configuration data that moves or enables a range?"""
        events = self.timeline.events
        selects = (events.kind == Kind.OUT) & (events.address == CONFIG_ADDRESS)
        last = np.maximum.accumulate(np.where(selects, np.arange(len(events)), -1))
        register = np.where(last >= 0, events.value[np.maximum(last, 0)], 0) & 0xFC
        data = (events.address >= CONFIG_DATA) & (events.address < CONFIG_DATA + 4)
        return np.asarray((events.kind == Kind.OUT) & data & np.isin(register, MAPPING_REGISTERS))

    def touching(self, number: int) -> Positions:
        """The events that touch a range, in order."""
        return self._order[self._bounds[number] : self._bounds[number + 1]]

    def of(self, number: int) -> Evidence:
        """The evidence about one range."""
        events, timeline = self.timeline.events, self.timeline
        touches = self.touching(number)
        at = touches[self.single[touches]]
        strings = touches[events.is_write[touches] & (events.count[touches] > 1)]
        reads = touches[events.is_read[touches]]
        after = np.maximum(self.next[at], 0)
        has = self.next[at] >= 0
        timed = has & (events.time[after] != NO_TIME) & (events.time[at] != NO_TIME)
        value, known = self.last_value, self.written_before
        other = self.read_other[reads]
        waits = timeline.waits[at]
        longest = at[np.argmax(waits)] if len(at) else None
        same_address = has & (events.address[after] == events.address[at])
        same_address &= events.is_write[after] & (self.pio[after] == self.pio[at])
        step = events.value[at] - value[at]
        window = has & self.is_window[self.range[after]] & (self.range[after] != number)
        first = np.concatenate((at, strings))
        return Evidence(
            zone=self.ranges[number],
            name=int(events.name[first.min()]),
            in_force=bool(self.in_force[at].any()),
            addresses=len(np.unique(events.address[at])),
            writes=len(at),
            strings=len(strings),
            reads=len(reads),
            exits=int(timeline.exits[touches].sum()),
            first_line=int(events.number[first.min()]),
            waits=_waits(waits),
            longest=Counted(0, None if longest is None else int(events.number[longest])),
            to_next=_waits(np.where(timed, events.time[after] - events.time[at], NO_TIME)),
            same_back=int((self.read_known[reads] & ~other).sum()),
            other_back=self._counted(reads, other),
            pair=self._pair(number, at),
            only_value=_only(events.value[at]),
            repeated=self._counted(at, same_address & (events.value[after] != events.value[at])),
            counting=self._counted(at, known[at] & (step > 0) & (step <= STEP_MAX)),
            in_range=int((self.same_next[at] & events.is_write[after]).sum()),
            before_window=self._counted(at, window),
            mapping=self._counted(at, self.mapping[at]),
            no_successor=int((~has).sum()),
            never_exits=timeline.has_exits and not (self.in_force[at] | timeline.exits[at]).any(),
        )

    def _pair(self, number: int, at: Positions) -> Pair:
        return Pair() if self.is_window[number] else self.pairs.of(self.ranges[number], at)

    def _counted(self, at: Positions, which: Mask) -> Counted:
        found = at[which]
        line = int(self.timeline.events.number[found[0]]) if len(found) else None
        return Counted(len(found), line)


def _last_written(events: Events, pio: Mask) -> tuple[Words, Mask]:
    """Per access: the value last written to the same address in the same width, if there is one."""
    value = np.zeros(len(events), np.uint64)
    known = np.zeros(len(events), dtype=bool)
    at = np.flatnonzero(events.is_access)
    order = at[np.lexsort((at, events.size[at], events.address[at], pio[at]))]
    source = order[np.maximum(_write_before(events.is_write[order]), 0)]
    same = _write_before(events.is_write[order]) >= 0
    same &= events.address[source] == events.address[order]
    same &= (events.size[source] == events.size[order]) & (pio[source] == pio[order])
    value[order], known[order] = events.value[source], same
    return value, known


def _read_back(events: Events, pio: Mask) -> tuple[Mask, Mask]:
    """Per read: were all its bytes written before, and does one differ from what was written?"""
    at = np.flatnonzero(events.is_access & (events.count == 1))
    of = np.repeat(at, events.size[at])
    first = np.repeat(np.cumsum(events.size[at], dtype=np.int64) - events.size[at], events.size[at])
    offset = (np.arange(len(of)) - first).astype(np.uint64)
    address = events.address[of] + offset
    byte = events.value[of] >> (offset * np.uint64(8)) & np.uint64(0xFF)
    order = np.lexsort((of, address, pio[of]))
    before = _write_before(events.is_write[of[order]])
    source = order[np.maximum(before, 0)]
    known = (before >= 0) & (address[source] == address[order])
    known &= pio[of[source]] == pio[of[order]]
    differs = known & (byte[source] != byte[order])
    count = len(events)
    unknown = np.bincount(of[order][~known], minlength=count) > 0
    other = np.bincount(of[order][differs], minlength=count) > 0
    return events.is_read & ~unknown, events.is_read & other


def _only(values: Words) -> int | None:
    """The value that all have; None if they differ, or there is none."""
    return int(values[0]) if len(values) and (values == values[0]).all() else None


def _write_before(writes: Mask) -> Positions:
    """Per place: the place of the last write before it, -1 if there is none."""
    last = np.maximum.accumulate(np.where(writes, np.arange(len(writes)), -1))
    return np.asarray(np.append(-1, last[:-1])[: len(writes)])


def _waits(waits: Positions) -> Waits | None:
    known = waits[waits >= 0]
    if not len(known):
        return None
    p50, p99 = np.percentile(known, (50, 99), method="higher")
    return Waits(int(p50), int(p99), int(known.max()))
