"""The JSON members of an advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coalesced.tools.advise.advice import Advice, RangeAdvice
from coalesced.tools.advise.evidence import Waits
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.advise.zones import Zone
from coalesced.tools.runs.json_members import INLINE


@dataclass(frozen=True)
class ZoneMembers:
    """A range of addresses; `kind` is mmio or pio."""

    address: int
    size: int
    kind: str


@dataclass(frozen=True)
class Microseconds:
    """How long writes wait, or would."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class AgreementMembers:
    """The ring's rules held against the recording."""

    checked: int
    agreeing: int
    exits: int
    predicted: int
    unseen_drains: int
    explained: int
    first_disagreements: Sequence[int]


@dataclass(frozen=True)
class RangeMembers:
    """The advice about a range; `line` shows the reason."""

    zone: ZoneMembers = field(metadata=INLINE)
    name: str | None
    reads: int
    writes: int
    exits: int
    share: float
    in_force: bool
    verdict: Verdict
    reasons: Sequence[str]
    line: int | None
    wait_us: Microseconds | None
    exits_saved: int | None


@dataclass(frozen=True)
class Predicted:
    """Exits as recorded, and with the zones that are advised."""

    now: int
    advised: int


@dataclass(frozen=True)
class AdviceMembers:
    """Everything that the report shows."""

    trace: str
    format: str
    events: int
    lines_skipped: int
    lines_known: int
    lost_marks: int
    offsets: Mapping[str, int]
    threads: int
    seconds: float | None
    accesses: int
    reads: int
    writes: int
    string_accesses: int
    in_kernel: int
    exits_recorded: int | None
    zones_in_force: Sequence[ZoneMembers]
    agreement: AgreementMembers | None
    ranges: Sequence[RangeMembers]
    zones_advised: Sequence[ZoneMembers]
    exits_predicted: Predicted
    ring_pages: Mapping[str, int]
    exit_ns: float | None
    seconds_saved: float | None


def members(advice: Advice) -> AdviceMembers:
    """The advice as `--json` prints it."""
    agreed = advice.agreement
    return AdviceMembers(
        trace=advice.trace,
        format=advice.format,
        events=advice.lines.events,
        lines_skipped=advice.lines.foreign,
        lines_known=advice.lines.known,
        lost_marks=advice.lines.lost_marks,
        offsets=advice.lines.apart,
        threads=advice.threads,
        seconds=advice.seconds,
        accesses=advice.reads + advice.writes,
        reads=advice.reads,
        writes=advice.writes,
        string_accesses=advice.string_accesses,
        in_kernel=advice.in_kernel,
        exits_recorded=advice.exits if advice.has_exits else None,
        zones_in_force=[_zone(zone) for zone in advice.zones_in_force],
        agreement=None
        if agreed is None
        else AgreementMembers(
            agreed.writes,
            agreed.agreed,
            agreed.exits,
            agreed.predicted,
            agreed.unseen_drains,
            agreed.explained,
            agreed.disagreements,
        ),
        ranges=[_range(each) for each in advice.ranges],
        zones_advised=[_zone(zone) for zone in advice.advised],
        exits_predicted=Predicted(advice.exits, advice.exits_advised),
        ring_pages=advice.exits_by_ring_pages,
        exit_ns=advice.exit_ns,
        seconds_saved=advice.seconds_saved,
    )


def _zone(zone: Zone) -> ZoneMembers:
    return ZoneMembers(zone.address, zone.size, "pio" if zone.pio else "mmio")


def _range(each: RangeAdvice) -> RangeMembers:
    return RangeMembers(
        zone=_zone(each.zone),
        name=each.name,
        reads=each.reads,
        writes=each.writes,
        exits=each.exits,
        share=each.share,
        in_force=each.in_force,
        verdict=each.verdict,
        reasons=[each.reason],
        line=each.line,
        wait_us=None if each.waits_ns is None else _microseconds(each.waits_ns),
        exits_saved=each.saves,
    )


def _microseconds(waits: Waits) -> Microseconds:
    return Microseconds(waits.p50 / 1e3, waits.p99 / 1e3, waits.max / 1e3)
