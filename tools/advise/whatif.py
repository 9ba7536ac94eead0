"""The exits of the same accesses with the advised zones, and under other conditions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from coalesced.tools.advise import passes
from coalesced.tools.advise.evidence import Evidence
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.spool import array_of
from coalesced.tools.advise.zones import Agreement, Force
from coalesced.vmm.zone import Zone

RING_PAGES: Final = (1, 2, 4, 8, 16, 32, 64)
STALENESS_MS: Final = (0.1, 1, 10, 100)
LEAST: Final = 4  # writes of a doorbell
SELDOM: Final = 0.1


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

    `ring_per_zone`, `ring_per_device`: exits, where each zone, or all of a device, has a ring of
    one page that only exits to the pages of these zones (of ports: to their 8 ports) drain.
    """

    ring_pages: Mapping[str, int]
    staleness_ms: Mapping[str, Stale] | None
    ring_per_zone: int
    ring_per_device: int
    ioeventfds: Sequence[Doorbell]


@dataclass(frozen=True)
class Outcome:
    """Exits as they were and with the advised zones. `alone`: with one of the single zones each."""

    agreement: Agreement
    what_if: WhatIf
    alone: Sequence[int]
    by_part: Sequence[int]
    advised_by_part: Sequence[int]


def outcome(
    recording: Recording,
    force: Force,
    advised: Sequence[Zone],
    singles: Sequence[Zone],
    found: Sequence[Evidence],
    device: Callable[[Zone], Hashable],
) -> Outcome:
    """With the zones in force and the advised ones; `device`: of a zone."""
    zones = [*force.zones, *advised]
    limits = STALENESS_MS if recording.whole.timed else ()
    ns = np.array([round(ms * 1e6) for ms in limits], np.int64)
    rings = [force.ring.with_pages(pages).slots for pages in RING_PAGES]
    exits = passes.exits(
        recording.whole,
        array_of(force.zones),
        array_of(zones),
        array_of(singles),
        force.drains,
        np.array(rings, np.uint64),
        ns,
        (force.ring.mended, force.ring.start),
        np.arange(len(zones), dtype=np.uint32),
        _numbers([device(zone) for zone in zones]),
    )
    waiting = passes.late(
        recording.whole, array_of(force.zones), array_of(zones), force.drains, force.queued, ns
    )
    (pages, alone, limited, own, now, after, agreed), late = recording.spool.both(exits, waiting)
    stale = zip(limited[::2], np.frombuffer(late, "<i8").tolist(), limited[1::2], strict=True)
    bells = [_doorbell(each) for each in found if _is_doorbell(each, zones)]
    return Outcome(
        Agreement(*agreed),
        WhatIf(
            {str(number): exits for number, exits in zip(RING_PAGES, pages, strict=True)},
            {f"{ms:g}": Stale(*each) for ms, each in zip(limits, stale, strict=True)} or None,
            own[0],
            own[1],
            sorted(bells, key=lambda each: -each.exits),
        ),
        alone,
        now,
        after,
    )


def _numbers(keys: Sequence[Hashable]) -> passes.Array:
    """Equal keys by equal numbers."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.uint32)


def _is_doorbell(found: Evidence, zones: Sequence[Zone]) -> bool:
    """Whether all writes have one value, and nothing reads what they did."""
    if found.is_window or found.only_value is None or found.mapping.count or found.reads:
        return False
    if any(zone.holds(found.zone) for zone in zones) or found.strings:
        return False
    return found.exits >= LEAST and found.pair.read <= found.writes * SELDOM


def _doorbell(found: Evidence) -> Doorbell:
    assert found.only_value is not None
    return Doorbell(found.zone, found.only_value, found.exits)
