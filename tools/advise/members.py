"""The JSON object of an advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from coalesced.tools.advise.advice import Advice, RangeAdvice
from coalesced.tools.advise.bins import Waits
from coalesced.tools.runs.results import Percentiles
from coalesced.tools.traces.events import READS, WRITES, Kind
from coalesced.vmm.zone import Zone

if TYPE_CHECKING:
    from coalesced.tools.advise.verify import Verified


def members(advice: Advice) -> Mapping[str, object]:
    """The members that the reference names, and what the report has besides."""
    agreed, lines = advice.agreement, advice.lines
    reads, writes = (_count(advice, READS), _count(advice, WRITES))
    return {
        "trace": advice.trace,
        "format": advice.format,
        "events": lines.events,
        "lines_skipped": lines.foreign,
        "lines_known": lines.known,
        "lost_marks": lines.lost_marks,
        "apart": lines.apart,
        "cut_files": lines.cut,
        "accesses": reads + writes,
        "reads": reads,
        "writes": writes,
        "events_by_kind": advice.counts,
        "string_accesses": advice.string_accesses,
        "in_kernel": advice.in_kernel,
        "threads": advice.threads,
        "seconds": advice.seconds,
        "exits_recorded": advice.exits if advice.has_exits else 0,
        "zones_in_force": _zones(advice.zones_in_force),
        "agreement": agreed
        and {
            "checked": agreed.writes,
            "agreeing": agreed.agreed,
            "first_disagreements": agreed.disagreements,
            "exits": agreed.exits,
            "predicted": agreed.predicted,
            "unseen_drains": agreed.unseen_drains,
            "explained": agreed.explained,
        },
        "ranges": [_range(each) for each in advice.ranges],
        "zones_advised": _zones(advice.advised),
        "exits_predicted": {"now": advice.exits, "advised": advice.exits_advised},
        "ring_pages": advice.what_if.ring_pages,
        "staleness_ms": advice.what_if.staleness_ms,
        "ring_per_zone": advice.what_if.ring_per_zone,
        "ring_per_device": advice.what_if.ring_per_device,
        "ioeventfds": [
            _zone(each.zone) | {"value": each.value, "exits": each.exits}
            for each in advice.what_if.ioeventfds
        ],
        "exit_cost": advice.exit_cost,
        "seconds_saved": advice.seconds_saved,
        "verified": advice.verified and _verified(advice.verified),
        "recordings": [_recording(each) for each in advice.recordings],
    }


def _count(advice: Advice, kinds: Iterable[Kind]) -> int:
    return sum(advice.counts.get(kind.name.lower(), 0) for kind in kinds)


def _recording(advice: Advice) -> dict[str, object]:
    """One of several recordings."""
    agreed = advice.agreement
    return {
        "trace": advice.trace,
        "format": advice.format,
        "events": advice.lines.events,
        "lines_skipped": advice.lines.foreign,
        "zones_in_force": _zones(advice.zones_in_force),
        "agreement": agreed and {"checked": agreed.writes, "agreeing": agreed.agreed},
        "exits_predicted": {"now": advice.exits, "advised": advice.exits_advised},
        "verified": advice.verified and _verified(advice.verified),
    }


def _zone(zone: Zone) -> dict[str, object]:
    return {"address": zone.address, "size": zone.size, "kind": "pio" if zone.pio else "mmio"}


def _zones(zones: Iterable[Zone]) -> list[dict[str, object]]:
    return [_zone(zone) for zone in zones]


def _range(each: RangeAdvice) -> dict[str, object]:
    return _zone(each.zone) | {
        "name": each.name,
        "reads": each.reads,
        "writes": each.writes,
        "exits": each.exits,
        "share": each.share,
        "in_force": each.in_force,
        "verdict": each.verdict,
        "reasons": [each.reason],
        "line": each.line,
        "trace": each.trace,
        "wait_us": _microseconds(each.waits_ns),
        "exits_saved": each.saves,
    }


def _microseconds(waits: Waits | None) -> Percentiles:
    if waits is None:
        return Percentiles()
    return Percentiles(waits.p50 / 1e3, waits.p99 / 1e3, waits.max / 1e3)


def _verified(proof: Verified) -> dict[str, object]:
    dropped = [_zone(each.zone) | {"reason": each.reason} for each in proof.dropped]
    return {**vars(proof), "dropped": dropped}
