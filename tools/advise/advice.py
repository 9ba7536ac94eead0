"""The whole advice about one recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from coalesced.tools.advise.verify import Verified

from coalesced.hv.printable import printable
from coalesced.tools.advise import zones as zoning
from coalesced.tools.advise.evidence import Evidence, Measured, Waits
from coalesced.tools.advise.history import Parts, wait_bins
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
class Decision:
    """A verdict on a range that a replay or another recording has led to."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Options:
    """What the advice is for."""

    zones: Sequence[Zone] | None = None  # in force; None: inferred
    staleness_ns: int = 1_000_000
    exit_cost: ExitCost | None = None
    names: Map = field(default_factory=Map)
    ring: Ring = field(default_factory=Ring)
    decided: Mapping[Zone, Decision] = field(default_factory=dict)  # by something else


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
    parts: Sequence[int]  # its accesses by part of the recording
    wait_bins: Sequence[int]  # its writes by the power of two of their wait, see wait_bins
    undecided: bool
    trace: str  # whose line shows the reason


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
    part_seconds: float | None  # None: the parts have equally many events
    exits_by_part: Sequence[int]
    exits_advised_by_part: Sequence[int]
    what_if: WhatIf
    exit_cost: ExitCost | None
    seconds_saved: float | None
    ring: Ring
    verified: Verified | None = None
    recordings: Sequence[Advice] = ()  # where there are several


def advise(recording: Recording, options: Options) -> Advice:
    """Judge every range that the recording writes. Raises BadInput if no access has an address."""
    events = guest_events(recording)
    timeline = Timeline(events)
    in_force = options.zones
    if in_force is None:
        in_force = zoning.inferred(timeline, options.ring)
    measured = Measured(timeline, in_force, options.staleness_ns)
    found = [measured.of(number) for number in range(len(measured.ranges))]
    judged = [(each, _judged(each, options)) for each in found]
    advised = added(((each.zone, judgement.verdict) for each, judgement in judged), in_force)
    now = timeline.total_exits
    zones = [*in_force, *advised]
    ring = zoning.located(timeline, in_force, options.ring)
    unseen = zoning.unseen_drains(timeline, in_force, ring)
    exits = zoning.Exits(timeline, zones)
    conditions = what_if(timeline, zones, exits, ring, unseen, found)
    after = conditions.ring_pages["1"]
    cost = options.exit_cost
    parts = Parts.divide(timeline)
    trace = printable(str(recording.path))
    of_range = _Ranges(
        measured,
        parts,
        in_force,
        ring,
        unseen,
        options.names,
        recording.reader.names,
        trace,
    )
    ranges = [of_range.of(number, *each) for number, each in enumerate(judged)]
    return Advice(
        trace=trace,
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
        ranges=sorted(ranges, key=lambda each: (-each.exits, each.zone)),
        advised=advised,
        exits_advised=after,
        part_seconds=parts.seconds,
        exits_by_part=parts.count(timeline.all_exits),
        exits_advised_by_part=parts.count(exits.at(ring, unseen)),
        what_if=conditions,
        exit_cost=cost,
        seconds_saved=None if cost is None else (now - after) * cost.ns / 1e9,
        ring=ring,
    )


def _judged(found: Evidence, options: Options) -> Judgement:
    """The judgement, unless the options decide otherwise."""
    judgement = judge(found, options.staleness_ns)
    other = options.decided.get(found.zone)
    if other is None or other.verdict is judgement.verdict:
        return judgement
    reason = f"{judgement.reason}; but {other.reason}"
    return replace(judgement, verdict=other.verdict, reason=reason)


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
    failed = {
        each.zone: Decision(
            Verdict.UNPROVEN, f"a replay with {dropped.zone} fails: {dropped.reason}"
        )
        for dropped in proof.dropped
        for each in first.ranges
        if each.verdict is Verdict.COALESCE and dropped.zone.holds(each.zone)
    }
    advice = advise(recording, replace(options, decided=failed)) if failed else first
    return replace(advice, verified=proof)


def guest_events(recording: Recording) -> Events:
    """The accesses of the guest and its exits; QEMU's calls of handlers joined to accesses.

    Raises BadInput if there is no access with an address.
    """
    form = recording.reader.format
    events = recording.events
    if form is not None and form.handler_calls:
        events, _ = accesses(events, recording.reader.names)
    if not events.is_access.any():
        apart = sum(recording.reader.apart.values())
        raise BadInput(
            f"{recording.path}: expected accesses of a vCPU at absolute addresses, "
            f"found {apart:,} lines whose addresses are offsets"
        )
    return events


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

    measured: Measured
    parts: Parts
    in_force: Sequence[Zone]
    ring: Ring
    unseen: Mask
    names: Map
    recorded: Names
    trace: str

    def of(self, number: int, found: Evidence, judgement: Judgement) -> RangeAdvice:
        """The advice about one range."""
        timeline = self.measured.timeline
        touches = self.measured.touching(number)
        writes = touches[self.measured.single[touches]]
        new = not any(zone.holds(found.zone) for zone in self.in_force)
        advised = new and judgement.verdict is Verdict.COALESCE
        return RangeAdvice(
            found.zone,
            self.names.name(found.zone) or self._recorded_name(found),
            found.writes + found.strings,
            found.reads,
            found.exits,
            found.exits / max(timeline.total_exits, 1),
            found.in_force,
            judgement.verdict,
            judgement.reason,
            judgement.line,
            found.waits,
            self._saves(found.zone) if advised else None,
            self.parts.count(touches[timeline.begins[touches]]),
            wait_bins(timeline.waits[writes]),
            judgement.undecided,
            self.trace,
        )

    def _saves(self, zone: Zone) -> int:
        timeline = self.measured.timeline
        zones = [*self.in_force, zone]
        after = zoning.Exits(timeline, zones).with_ring(self.ring, self.unseen)
        return timeline.total_exits - after

    def _recorded_name(self, found: Evidence) -> str | None:
        name = list(self.recorded.numbers)[found.name] if self.recorded.numbers else b""
        return printable(name.decode(errors="replace")) or None


def added(judged: Iterable[tuple[Zone, Verdict]], in_force: Sequence[Zone]) -> list[Zone]:
    """The zones to add: the fewest that hold every range to coalesce and no other one."""
    zones: list[Zone] = []
    joinable = False
    for zone, verdict in sorted(judged):
        if verdict is not Verdict.COALESCE:
            joinable = False
            continue
        last = zones[-1] if zones and joinable else None
        if last is not None and last.pio == zone.pio and zone.address - last.end <= MERGE_GAP:
            zones[-1] = Zone(zone.pio, last.address, max(last.end, zone.end) - last.address)
        else:
            zones.append(zone)
        joinable = True
    return [new for new in zones if not any(old.holds(new) for old in in_force)]
