"""The exits of the same accesses with the advised zones under other conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from coalesced.tools.advise import zones as zoning
from coalesced.tools.advise.evidence import Evidence, is_window
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.timeline import Timeline, following
from coalesced.tools.advise.zones import inside
from coalesced.tools.traces.events import NO_TIME, Kind, Mask, Times
from coalesced.vmm.zone import Zone

RING_PAGES: Final = (1, 2, 4, 8, 16, 32, 64)
STALENESS_MS: Final = (0.1, 1, 10, 100)
LEAST: Final = 4  # writes of a doorbell
SELDOM: Final = 0.1
PAGE: Final = 0x1000
PORTS: Final = 8  # that are taken for those of one device


@dataclass(frozen=True)
class Stale:
    """A limit on the age of queued writes. `late`: writes that would wait longer without it."""

    exits: int
    late: int
    drains: int  # by the limit


@dataclass(frozen=True)
class Doorbell:
    """A register whose exits an ioeventfd would save: one value is written, nothing reads it."""

    zone: Zone
    value: int
    exits: int


@dataclass(frozen=True)
class WhatIf:
    """`ring_pages`: exits by the pages of the ring. `staleness_ms`: None without time stamps.

    `ring_per_zone`: exits, where each zone has a ring of one page that only exits to its own pages
    (of ports: to its 8 ports) drain.
    """

    ring_pages: Mapping[str, int]
    staleness_ms: Mapping[str, Stale] | None
    ring_per_zone: int
    ioeventfds: Sequence[Doorbell]


def what_if(
    timeline: Timeline,
    zones: Sequence[Zone],
    exits: zoning.Exits,
    ring: Ring,
    unseen: Mask,
    found: Sequence[Evidence],
) -> WhatIf:
    """With the zones in force and the advised ones; `exits`: those with these zones."""
    timed = bool((timeline.events.time != NO_TIME).all())
    limits = _Limits(timeline.events.time, exits, ring, unseen) if timed else None
    return WhatIf(
        {str(pages): exits.with_ring(ring.with_pages(pages), unseen) for pages in RING_PAGES},
        {f"{ms:g}": limits.of(round(ms * 1e6)) for ms in STALENESS_MS} if limits else None,
        _ring_per_zone(timeline, exits, zones, unseen),
        sorted(
            (_doorbell(each) for each in found if _is_doorbell(each, zones)),
            key=lambda each: -each.exits,
        ),
    )


class _Limits:
    """Exits by a limit on waits: a timer that the first write in an empty ring starts."""

    def __init__(self, time: Times, exits: zoning.Exits, ring: Ring, unseen: Mask) -> None:
        self._exits, self._ring, self._unseen = exits, ring, unseen
        self._queued = np.flatnonzero(exits.within)
        end = following(exits.others | np.append(unseen[1:], False))[self._queued]
        self._first = np.append(True, end[1:] != end[:-1])[: len(end)]
        self._last = np.append(self._first[1:], True)[: len(end)]
        began = np.maximum.accumulate(np.where(self._first, np.arange(len(end)), 0))
        at, until = time[self._queued], time[np.minimum(end, len(time) - 1)]
        self._age = at - at[began]
        self._wait = until - at

    def of(self, limit: int) -> Stale:
        """With a limit in nanoseconds."""
        ticks = self._age // limit
        fired = ~self._first[1:] & (ticks[1:] > ticks[:-1])
        starts = self._unseen.copy()
        starts[self._queued[1:][fired]] = True
        at_last = self._last & (self._age + self._wait >= (ticks + 1) * limit)
        return Stale(
            self._exits.with_ring(self._ring, starts),
            int((self._wait > limit).sum()),
            int(fired.sum() + at_last.sum()),
        )


def _ring_per_zone(
    timeline: Timeline, exits: zoning.Exits, zones: Sequence[Zone], unseen: Mask
) -> int:
    count = int(exits.others.sum())
    reads = timeline.events.is_read | (timeline.events.kind == Kind.LOAD_BEGINS)
    leaves = (timeline.begins & reads) | (timeline.exits & ~exits.within)
    for zone in zones:
        own = inside(timeline.events, [zone])
        drains = leaves & _beside(timeline, zone)
        count += int(zoning.full(Ring(), own, drains, unseen).sum())
    return count


def _beside(timeline: Timeline, zone: Zone) -> Mask:
    """The events on the pages of a zone; of ports, on the 8 around it."""
    events, unit = timeline.events, PORTS if zone.pio else PAGE
    start = zone.address // unit * unit
    end = -(-zone.end // unit) * unit
    pio = np.isin(events.kind, (Kind.IN, Kind.OUT))
    within = (events.address >= np.uint64(start)) & (events.address <= np.uint64(end - 1))
    return np.asarray((pio == zone.pio) & within)


def _is_doorbell(found: Evidence, zones: Sequence[Zone]) -> bool:
    """Do all writes have one value, and does nothing read what they did?"""
    if is_window(found) or found.only_value is None or found.mapping.count or found.reads:
        return False
    if any(zone.holds(found.zone) for zone in zones) or found.strings:
        return False
    return found.exits >= LEAST and found.pair.read <= found.writes * SELDOM


def _doorbell(found: Evidence) -> Doorbell:
    assert found.only_value is not None
    return Doorbell(found.zone, found.only_value, found.exits)
