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
from coalesced.tools.traces.events import NO_TIME, Kind, Mask
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
    ring: Ring,
    unseen: Mask,
    found: Sequence[Evidence],
) -> WhatIf:
    """With the zones in force and the advised ones."""
    timed = bool((timeline.events.time != NO_TIME).all())
    return WhatIf(
        {
            str(pages): zoning.exits_with(timeline, zones, ring.with_pages(pages), unseen)
            for pages in RING_PAGES
        },
        {f"{ms:g}": _stale(timeline, zones, ring, unseen, ms) for ms in STALENESS_MS}
        if timed
        else None,
        _ring_per_zone(timeline, zones, unseen),
        sorted(
            (_doorbell(each) for each in found if _is_doorbell(each, zones)),
            key=lambda each: -each.exits,
        ),
    )


def _stale(timeline: Timeline, zones: Sequence[Zone], ring: Ring, unseen: Mask, ms: float) -> Stale:
    """A timer that starts with the first write in an empty ring drains it when it fires."""
    limit, time = round(ms * 1e6), timeline.events.time
    within = inside(timeline.events, zones)
    drains = zoning.other_exits(timeline, within)
    queued = np.flatnonzero(within)
    end = following(drains | np.append(unseen[1:], False))[queued]
    first = np.append(True, end[1:] != end[:-1])[: len(queued)]
    began = time[queued][np.maximum.accumulate(np.where(first, np.arange(len(queued)), 0))]
    ticks = (time[queued] - began) // limit
    starts = unseen.copy()
    starts[queued[1:][~first[1:] & (ticks[1:] > ticks[:-1])]] = True
    until = time[np.minimum(end, len(time) - 1)]
    last = np.append(first[1:], True)[: len(queued)]
    fires = int((starts & ~unseen).sum())
    fires += int((last & (until - began >= (ticks + 1) * limit)).sum())
    exits = zoning.exits_with(timeline, zones, ring, starts)
    return Stale(exits, int((until - time[queued] > limit).sum()), fires)


def _ring_per_zone(timeline: Timeline, zones: Sequence[Zone], unseen: Mask) -> int:
    within = inside(timeline.events, zones)
    exits = int(zoning.other_exits(timeline, within).sum())
    leaves = timeline.begins & (
        timeline.events.is_read | (timeline.events.kind == Kind.LOAD_BEGINS)
    )
    leaves |= timeline.exits & ~within
    for zone in zones:
        own = inside(timeline.events, [zone])
        drains = leaves & _beside(timeline, zone)
        exits += int(zoning.full(Ring(), own, drains, unseen).sum())
    return exits


def _beside(timeline: Timeline, zone: Zone) -> Mask:
    """The events on the pages of a zone; of ports, on the 8 around it."""
    events, unit = timeline.events, PORTS if zone.pio else PAGE
    start = zone.address // unit * unit
    end = -(-(zone.address + zone.size) // unit) * unit
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
