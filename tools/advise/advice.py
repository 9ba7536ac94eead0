"""The whole advice about one recording."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coalesced.tools.advise.verify import Verified

from coalesced.hv.printable import printable
from coalesced.tools.advise import passes, zones
from coalesced.tools.advise.bins import Waits
from coalesced.tools.advise.evidence import Evidence, measured
from coalesced.tools.advise.names import Map, device
from coalesced.tools.advise.ranges import ranges
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.verdicts import Judgement, Verdict, judge
from coalesced.tools.advise.whatif import WhatIf, outcome
from coalesced.tools.advise.zones import Agreement, Force
from coalesced.tools.runs import progress
from coalesced.tools.traces.events import NO_TIME, Kind
from coalesced.vmm.zone import Zone

_PASSES = 9  # over the events, at most
_ALONE_MOST = 256  # zones whose savings alone are counted: each is tried with each event
MERGE_GAP = 0x1000  # two advised ranges with nothing else between them are one zone


@dataclass(frozen=True)
class ExitCost:
    """The cost of an exit, and the source of the figure."""

    ns: float
    source: str


@dataclass(frozen=True)
class Decision:
    """A verdict on a range that a replay or another recording has led to."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Options:
    """The assumptions of the advice."""

    zones: Sequence[Zone] | None = None  # in force; None: inferred
    staleness_ns: int = 1_000_000
    exit_cost: ExitCost | None = None
    names: Map = field(default_factory=Map)
    ring: Ring = field(default_factory=Ring)
    decided: Mapping[Zone, Decision] = field(default_factory=dict)  # by something else


@dataclass(frozen=True)
class RangeAdvice:
    """A range of registers. `saves`: the exits that it saves alone, if it is a zone to add and
    one of the 256 with most exits."""

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
    wait_bins: Sequence[int]  # its writes by the power of two of their wait, see Bins.powers
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
    cut: Sequence[str]  # packed files that end too early


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
    """Judge every range that the recording writes."""
    with progress.shown(len(recording.spool) * _PASSES) as bar:
        bar.show("judging")
        recording.spool.watch = bar.advance
        return _advice(recording, options)


def _advice(recording: Recording, options: Options) -> Advice:
    written = zones.Written.of_recording(recording, options.ring)
    in_force = options.zones
    if in_force is None:
        in_force = zones.inferred(written, recording)
    found = measured(recording, ranges(written), in_force, options.staleness_ns)
    judged = [(each, _judged(each, options)) for each in found]
    advised = added(((each.zone, judgement.verdict) for each, judgement in judged), in_force)
    force = Force.of(recording, in_force, options.ring)
    singles = _singles(judged, in_force)
    naming = _Naming(recording, options.names, found)
    done = outcome(recording, force, advised, singles, found, naming.device)
    now, after = sum(done.by_part), done.what_if.ring_pages["1"]
    saves = {zone: now - exits for zone, exits in zip(singles, done.alone, strict=True)}
    trace = printable(str(recording.path))
    advices = [_range(each, how, now, naming, saves, trace) for each, how in judged]
    whole, cost = recording.whole, options.exit_cost
    span = (whole.end - whole.begin) / 1e9
    return Advice(
        trace=trace,
        format="unknown" if recording.reader.format is None else recording.reader.format.name,
        lines=_lines(recording),
        threads=recording.threads,
        seconds=None if whole.end == NO_TIME else span,
        counts=recording.counts,
        string_accesses=recording.string_accesses,
        in_kernel=recording.in_kernel,
        has_exits=whole.has_exits,
        exits=now,
        zones_in_force=in_force,
        agreement=done.agreement if whole.has_exits else None,
        ranges=sorted(advices, key=lambda each: (-each.exits, each.zone)),
        advised=advised,
        exits_advised=after,
        part_seconds=span / passes.PARTS if whole.timed and span else None,
        exits_by_part=done.by_part,
        exits_advised_by_part=done.advised_by_part,
        what_if=done.what_if,
        exit_cost=cost,
        seconds_saved=None if cost is None else (now - after) * cost.ns / 1e9,
        ring=force.ring,
    )


def _singles(judged: Sequence[tuple[Evidence, Judgement]], in_force: Sequence[Zone]) -> list[Zone]:
    """The ranges to coalesce that are in no zone, those with most exits first."""
    new = [
        each
        for each, judgement in judged
        if judgement.verdict is Verdict.COALESCE
        and not any(zone.holds(each.zone) for zone in in_force)
    ]
    return [each.zone for each in sorted(new, key=lambda each: -each.exits)[:_ALONE_MOST]]


def _judged(found: Evidence, options: Options) -> Judgement:
    """The judgement, unless the options decide otherwise."""
    judgement = judge(found, options.staleness_ns)
    other = options.decided.get(found.zone)
    if other is None or other.verdict is judgement.verdict:
        return judgement
    reason = f"{judgement.reason}; but {other.reason}"
    return replace(judgement, verdict=other.verdict, reason=reason)


def _lines(recording: Recording) -> Lines:
    reader = recording.reader
    return Lines(
        recording.lines,
        reader.counts[Kind.KNOWN] + reader.counts[Kind.NO_VALUE],
        reader.foreign,
        reader.counts[Kind.LOST],
        reader.apart,
        [str(recording.path)] if reader.is_cut else [],
    )


class _Naming:
    """Names of ranges, and the devices of zones."""

    def __init__(self, recording: Recording, names: Map, found: Sequence[Evidence]) -> None:
        recorded = [name.decode(errors="replace") for name in recording.reader.names.numbers]
        self._ranges = [each.zone for each in found]  # ascending
        self._names = names
        self._recorded = {
            each.zone: printable(recorded[each.name]) if recorded else "" for each in found
        }

    def of(self, zone: Zone) -> str | None:
        """The name of a range."""
        return self._names.name(zone) or self._recorded.get(zone) or None

    def device(self, zone: Zone) -> object:
        """The group of a zone, by its name or that of the first range in it, or by its page."""
        first = bisect_left(self._ranges, Zone(zone.pio, zone.address, 0))
        holds = first < len(self._ranges) and zone.holds(self._ranges[first])
        return device(zone, self.of(self._ranges[first] if holds else zone))


def _range(
    found: Evidence,
    judgement: Judgement,
    exits: int,
    naming: _Naming,
    saves: Mapping[Zone, int],
    trace: str,
) -> RangeAdvice:
    return RangeAdvice(
        found.zone,
        naming.of(found.zone),
        found.writes + found.strings,
        found.reads,
        found.exits,
        found.exits / max(exits, 1),
        found.in_force,
        judgement.verdict,
        judgement.reason,
        judgement.line,
        found.waits,
        saves.get(found.zone),
        found.parts,
        found.wait_bins,
        judgement.undecided,
        trace,
    )


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
