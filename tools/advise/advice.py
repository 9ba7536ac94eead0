"""The whole advice about one recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from coalesced.tools.advise.verify import Verified

from coalesced.hv.printable import printable
from coalesced.tools.advise import zones as zoning
from coalesced.tools.advise.evidence import Evidence, Measured, Waits
from coalesced.tools.advise.names import Map
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.advise.verdicts import Judgement, Verdict, judge
from coalesced.tools.advise.whatif import WhatIf, what_if
from coalesced.tools.advise.zones import Agreement
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import progress
from coalesced.tools.runs.options import Accel
from coalesced.tools.traces.accesses import accesses
from coalesced.tools.traces.events import NO_TIME, Events, Kind, Mask
from coalesced.tools.traces.reader import Names
from coalesced.tools.traces.trace import Recording, trace_of
from coalesced.vmm.zone import Zone

MERGE_GAP = 0x1000  # two advised ranges with nothing else between them are one zone


@dataclass(frozen=True)
class ExitCost:
    """What an exit costs, and where the figure is from."""

    ns: float
    source: str


@dataclass(frozen=True)
class Options:
    """What the advice is for."""

    zones: Sequence[Zone] | None = None  # in force; None: inferred
    staleness_ns: int = 1_000_000
    exit_cost: ExitCost | None = None
    names: Map = field(default_factory=Map)
    ring: Ring = field(default_factory=Ring)
    failed: Mapping[Zone, str] = field(default_factory=dict)  # not to be advised, and why


@dataclass(frozen=True)
class RangeAdvice:
    """A range of registers. `saves`: the exits that it saves alone, if it is a zone to add."""

    zone: Zone
    name: str | None
    writes: int
    reads: int
    exits: int
    share: float  # of all exits
    in_force: bool
    verdict: Verdict
    reason: str
    line: int | None
    waits_ns: Waits | None
    saves: int | None


@dataclass(frozen=True)
class Lines:
    """The lines of the file by their use."""

    events: int
    known: int
    foreign: int
    lost_marks: int
    apart: Mapping[str, int]


@dataclass(frozen=True)
class Advice:
    """The model of what happened, the advice, and the savings."""

    trace: str
    format: str
    lines: Lines
    threads: int
    seconds: float | None
    counts: Mapping[str, int]
    string_accesses: int
    in_kernel: int
    has_exits: bool
    exits: int
    exits_by_write: int
    zones_in_force: Sequence[Zone]
    agreement: Agreement | None
    ranges: Sequence[RangeAdvice]
    advised: Sequence[Zone]
    exits_advised: int
    what_if: WhatIf
    exit_cost: ExitCost | None
    seconds_saved: float | None
    verified: Verified | None = None


def advise(recording: Recording, options: Options) -> Advice:
    """Judge every range that the recording writes. Raises BadInput if no access has an address."""
    events = _guest_events(recording)
    if not events.is_access.any():
        apart = sum(recording.reader.apart.values())
        raise BadInput(
            f"{recording.path}: expected accesses of a vCPU at absolute addresses, "
            f"found {apart:,} lines whose addresses are offsets"
        )
    timeline = Timeline(events)
    in_force = options.zones
    if in_force is None:
        in_force = zoning.inferred(timeline, options.ring)
    measured = Measured(timeline, in_force, options.staleness_ns)
    found = [measured.of(number) for number in range(len(measured.ranges))]
    judged = [(each, _judged(each, options)) for each in found]
    advised = [new for new in merged(judged) if not any(old.holds(new) for old in in_force)]
    now = timeline.total_exits
    zones = [*in_force, *advised]
    ring = zoning.located(timeline, in_force, options.ring)
    unseen = zoning.unseen_drains(timeline, in_force, ring)
    conditions = what_if(timeline, zones, ring, unseen, found)
    after = conditions.ring_pages["1"]
    cost = options.exit_cost
    ranges = _Ranges(timeline, in_force, ring, unseen, options.names, recording.reader.names)
    return Advice(
        trace=printable(str(recording.path)),
        format="unknown" if recording.reader.format is None else recording.reader.format.name,
        lines=_lines(recording),
        threads=len(np.unique(events.thread)),
        seconds=_seconds(events),
        counts=_counts(events),
        string_accesses=int((events.is_access & (events.count > 1)).sum()),
        in_kernel=int((zoning.in_kernel(timeline) & events.is_access).sum()),
        has_exits=timeline.has_exits,
        exits=now,
        exits_by_write=int(timeline.exits.sum()),
        zones_in_force=in_force,
        agreement=zoning.agreement(timeline, in_force, ring) if timeline.has_exits else None,
        ranges=sorted((ranges.of(*each) for each in judged), key=lambda r: (-r.exits, r.zone)),
        advised=advised,
        exits_advised=after,
        what_if=conditions,
        exit_cost=cost,
        seconds_saved=None if cost is None else (now - after) * cost.ns / 1e9,
    )


def _judged(found: Evidence, options: Options) -> Judgement:
    """The judgement, unless a zone with this range failed in a replay."""
    judgement = judge(found, options.staleness_ns)
    for zone, why in options.failed.items():
        if zone.holds(found.zone) and judgement.verdict is Verdict.COALESCE:
            reason = f"{judgement.reason}; but a replay with {zone} fails: {why}"
            return replace(judgement, verdict=Verdict.UNPROVEN, reason=reason)
    return judgement


def verified(
    recording: Recording, options: Options, specs: list[str] | None, accel: Accel
) -> Advice:
    """The advice, held against replays on a PC with these devices; what fails is not advised."""
    from coalesced.tools.advise.verify import Verifier  # noqa: PLC0415 - it starts machines
    from coalesced.tools.runs.boards import DEFAULT_MACHINE  # noqa: PLC0415

    first = advise(recording, options)
    with progress.shown(2) as bar:
        bar.show("a replay without zones")
        verifier = Verifier(trace_of(recording), specs or DEFAULT_MACHINE, accel)
        bar.advance()
        bar.show("a replay with zones")
        proof = verifier.of(first.zones_in_force, first.advised)
    failed = {each.zone: each.reason for each in proof.dropped}
    advice = advise(recording, replace(options, failed=failed)) if failed else first
    return replace(advice, verified=proof)


def _guest_events(recording: Recording) -> Events:
    """The accesses of the guest and its exits; QEMU's calls of handlers joined to accesses."""
    form = recording.reader.format
    events = recording.events
    if form is None or not form.handler_calls:
        return events
    return accesses(events, recording.reader.names)[0]


def _lines(recording: Recording) -> Lines:
    reader = recording.reader
    return Lines(
        len(recording.events),
        reader.counts[Kind.KNOWN] + reader.counts[Kind.NO_VALUE],
        reader.foreign,
        reader.counts[Kind.LOST],
        reader.apart,
    )


def _seconds(events: Events) -> float | None:
    times = events.time[events.time != NO_TIME]
    return float(times.max() - times.min()) / 1e9 if len(times) else None


def _counts(events: Events) -> dict[str, int]:
    kinds = np.bincount(events.kind, minlength=len(Kind))
    return {kind.name.lower(): int(kinds[kind]) for kind in Kind if kinds[kind]}


@dataclass(frozen=True)
class _Ranges:
    """Turns evidence and judgement into advice."""

    timeline: Timeline
    in_force: Sequence[Zone]
    ring: Ring
    unseen: Mask
    names: Map
    recorded: Names

    def of(self, found: Evidence, judgement: Judgement) -> RangeAdvice:
        """The advice about one range."""
        new = not any(zone.holds(found.zone) for zone in self.in_force)
        advised = new and judgement.verdict is Verdict.COALESCE
        return RangeAdvice(
            found.zone,
            self.names.name(found.zone) or self._recorded_name(found),
            found.writes + found.strings,
            found.reads,
            found.exits,
            found.exits / max(self.timeline.total_exits, 1),
            found.in_force,
            judgement.verdict,
            judgement.reason,
            judgement.line,
            found.waits,
            self._saves(found.zone) if advised else None,
        )

    def _saves(self, zone: Zone) -> int:
        zones = [*self.in_force, zone]
        after = zoning.Exits(self.timeline, zones).with_ring(self.ring, self.unseen)
        return self.timeline.total_exits - after

    def _recorded_name(self, found: Evidence) -> str | None:
        name = list(self.recorded.numbers)[found.name] if self.recorded.numbers else b""
        return printable(name.decode(errors="replace")) or None


def merged(judged: Sequence[tuple[Evidence, Judgement]]) -> list[Zone]:
    """The fewest zones that hold every advised range and no other one."""
    zones: list[Zone] = []
    joinable = False
    for found, judgement in sorted(judged, key=lambda each: each[0].zone):
        zone = found.zone
        if judgement.verdict is not Verdict.COALESCE:
            joinable = False
            continue
        last = zones[-1] if zones and joinable else None
        end = 0 if last is None else last.address + last.size
        if last is not None and last.pio == zone.pio and zone.address - end <= MERGE_GAP:
            size = max(end, zone.address + zone.size) - last.address
            zones[-1] = Zone(zone.pio, last.address, size)
        else:
            zones.append(zone)
        joinable = True
    return zones
