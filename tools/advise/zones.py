"""Coalesced zones, given or inferred from the writes that did not exit; and their ring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.traces.events import Events, Kind, Mask, Positions
from coalesced.vmm.zone import Zone

GAP_MAX: Final = 0x20000  # an inferred zone has no larger gap between two writes
# Interrupt controllers of a PC, which KVM plays itself: their writes never exit.
IN_KERNEL: Final = ((0xFEC00000, 0xFEC01000), (0xFEE00000, 0xFEF00000))


def inside(events: Events, zones: Iterable[Zone]) -> Mask:
    """Per event: a single write that lies wholly inside one of the zones?"""
    found = np.zeros(len(events), dtype=bool)
    last = events.address + (events.size - np.uint8(1))
    for zone in zones:
        kind = Kind.OUT if zone.pio else Kind.STORE
        end = np.uint64(zone.end - 1)
        within = (events.address >= np.uint64(zone.address)) & (last <= end)
        found |= within & (events.kind == kind) & (events.count == 1)
    return found


def in_kernel(timeline: Timeline) -> Mask:
    """Per event: is it an access to an interrupt controller, which never exits?"""
    events = timeline.events
    memory = np.isin(events.kind, (Kind.STORE, Kind.LOAD, Kind.LOAD_BEGINS))
    found = np.zeros(len(events), dtype=bool)
    for start, end in IN_KERNEL:
        found |= memory & (events.address >= start) & (events.address < end)
    return found


def before_since(wanted: Mask, marks: Mask, starts: Mask | None = None) -> Positions:
    """Per event: how many wanted events lie between the last mark before it and itself.

    `starts`: events right before which there is a mark that is no event.
    """
    count: Positions = np.cumsum(wanted) - wanted
    base = np.append(0, _latest(count, marks)[:-1])[: len(count)]
    if starts is not None:
        base = np.maximum(base, _latest(count, starts))
    return np.asarray(count - base)


def _latest(count: Positions, marks: Mask) -> Positions:
    """Per event: the count at the last mark up to it, 0 before the first one."""
    return np.asarray(np.maximum.accumulate(np.where(marks, count, 0)))


def unseen_drains(timeline: Timeline, zones: Sequence[Zone], ring: Ring) -> Mask:
    """Per event: was the ring drained right before it, though no line of an exit shows it?

    More writes were queued between two exits than the ring holds, so another thread of the VMM
    has drained it. The fewest such drains, and each so late that the ring fills at the next exit.
    """
    if not timeline.has_exits:
        return np.zeros(len(timeline.events), dtype=bool)
    queued = inside(timeline.events, zones) & ~timeline.exits
    until = before_since(queued[::-1], timeline.is_exit[::-1])[::-1] + 1  # the next exit
    since = before_since(queued, timeline.is_exit)
    return np.asarray(queued & (until % ring.most == 0) & (since > 0))


def inferred(timeline: Timeline, ring: Ring) -> list[Zone]:
    """The zones in force: ranges whose writes do not exit, except where the ring is full."""
    events = timeline.events
    if not timeline.has_exits:
        return []
    candidates = (events.kind == Kind.STORE) & ~in_kernel(timeline)
    queued = candidates & ~timeline.exits
    addresses = np.unique(events.address[queued])
    known = candidates & np.isin(events.address, addresses)
    full = before_since(known & queued, timeline.is_exit) >= ring.least
    apart = np.unique(events.address[candidates & ~known & timeline.exits & ~full])
    explained = events.address[candidates & ~known & timeline.exits & full]
    joined = np.union1d(addresses, np.setdiff1d(explained, apart))
    return _merged(joined, _lasts(events, candidates, joined), apart)


def _lasts(events: Events, which: Mask, addresses: Positions) -> Positions:
    """The last byte of the widest write at each address."""
    at, size = events.address[which], events.size[which]
    index = np.searchsorted(addresses, at)
    good = np.isin(at, addresses)
    largest = np.ones(len(addresses), np.uint64)
    np.maximum.at(largest, index[good], size[good].astype(np.uint64))
    return np.asarray(addresses + (largest - np.uint64(1)))


def _merged(starts: Positions, lasts: Positions, apart: Positions) -> list[Zone]:
    if not len(starts):
        return []
    gap = starts[1:] - np.minimum(lasts[:-1], starts[1:])
    between = np.searchsorted(apart, starts[1:]) != np.searchsorted(apart, starts[:-1])
    new = np.append(True, (gap > GAP_MAX) | between)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(starts)) - 1
    return [
        Zone(False, int(starts[a]), int(lasts[a : b + 1].max() - starts[a]) + 1)
        for a, b in zip(first, last, strict=True)
    ]


@dataclass(frozen=True)
class Agreement:
    """The ring's rules held against the recording, write by write.

    `explained`: of the writes that do not agree, those that do with the unseen drains.
    """

    writes: int
    exits: int
    predicted: int
    agreed: int
    unseen_drains: int
    explained: int
    disagreements: Sequence[int]  # the lines of the first ten that nothing explains


def agreement(timeline: Timeline, zones: Sequence[Zone], ring: Ring) -> Agreement:
    """Each write in a zone: it exits exactly if the ring is full since the last exit."""
    events = timeline.events
    within = inside(events, zones)
    unseen = unseen_drains(timeline, zones, ring)
    full = _full(timeline, within, ring)
    wrong = within & (full != timeline.exits)
    left = within & (_full(timeline, within, ring, unseen) != timeline.exits)
    return Agreement(
        int(within.sum()),
        int((within & timeline.exits).sum()),
        int((within & full).sum()),
        int((within & ~wrong).sum()),
        int(unseen.sum()),
        int((wrong & ~left).sum()),
        events.number[left][:10].tolist(),
    )


def _full(timeline: Timeline, within: Mask, ring: Ring, starts: Mask | None = None) -> Mask:
    """Per event: is the ring full of what was queued since the last drain?"""
    queued = within & ~timeline.exits
    since = before_since(queued, timeline.is_exit, starts)
    entries = before_since(within, timeline.is_exit, starts)
    return ring.is_full(entries, np.cumsum(queued) - queued - since)


def located(timeline: Timeline, zones: Sequence[Zone], ring: Ring) -> Ring:
    """The ring with the slot of the first entry that explains most writes."""
    if ring.mended or not timeline.has_exits:
        return ring
    within = inside(timeline.events, zones)
    queued = within & ~timeline.exits
    entries = before_since(within, timeline.is_exit)
    total = np.cumsum(queued) - queued - before_since(queued, timeline.is_exit)
    open_ = within & (timeline.exits | (entries >= ring.least))  # the others fit from any slot on
    entries, total, exits = entries[open_], total[open_], timeline.exits[open_]
    rings = [replace(ring, start=start) for start in range(ring.slots)]
    return max(rings, key=lambda each: int((each.is_full(entries, total) == exits).sum()))


class Exits:
    """The exits of the same accesses with some zones."""

    def __init__(self, timeline: Timeline, zones: Sequence[Zone]) -> None:
        self.within = inside(timeline.events, zones)
        self.others = _other_exits(timeline, self.within)

    def with_ring(self, ring: Ring, unseen: Mask) -> int:
        """With this ring, and drains that no line shows right before some events."""
        return int(self.others.sum() + full(ring, self.within, self.others, unseen).sum())

    def at(self, ring: Ring, unseen: Mask) -> Mask:
        """Per event: is there an exit?"""
        found = self.others.copy()
        found[np.flatnonzero(self.within)[full(ring, self.within, self.others, unseen)]] = True
        return found


def full(ring: Ring, queued: Mask, drains: Mask, unseen: Mask) -> Mask:
    """Per queued event: is the ring full, drained behind some events and unseen before others?"""
    number = np.cumsum(drains) - drains + np.cumsum(unseen)
    return ring.full(np.bincount(number[queued]))


def _other_exits(timeline: Timeline, within: Mask) -> Mask:
    """The exits of everything but the writes in zones."""
    single = timeline.events.count == 1
    alone = timeline.exits & ~within & single
    return np.asarray(timeline.drains | alone | _newly_exiting(timeline, within))


def _newly_exiting(timeline: Timeline, within: Mask) -> Mask:
    """Writes that were queued and are in no zone now."""
    events = timeline.events
    queued = (events.kind == Kind.STORE) & ~timeline.exits & ~in_kernel(timeline)
    return np.asarray(queued & ~within)
