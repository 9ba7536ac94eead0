"""Judges ranges by their evidence: a range is advised only for what its writes were seen to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coalesced.tools.advise.evidence import Evidence, begins_pair
from coalesced.tools.advise.pairs import LEAST, Values
from coalesced.tools.runs.words import clause, plural

ALWAYS: Final = 0.99
MOSTLY: Final = 0.5
CHANGES: Final = 0.5  # reads of data that has changed, of those that repeat
SELDOM_LATE: Final = 0.03  # of the writes of an index: the guest was held up
COUNTS: Final = 0.75  # of a tail's values; the others wrap


class Verdict(StrEnum):
    """Whether the writes of a range may wait in a ring."""

    COALESCE = "coalesce"
    LEAVE = "leave"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class Judgement:
    """A verdict, its reason, and the line of the recording that shows it."""

    verdict: Verdict
    reason: str
    line: int | None
    undecided: bool = False  # the recording speaks neither for it nor against it


Rule = Callable[[Evidence, int], Judgement | None]


def judge(found: Evidence, staleness: int) -> Judgement:
    """Judge a range; `staleness`: the nanoseconds that a write may wait."""
    for rule in _RULES:
        if (judgement := rule(found, staleness)) is not None:
            return judgement
    return Judgement(
        Verdict.UNPROVEN,
        "nothing in the recording shows that the device may get it later",
        found.first_line,
        True,
    )


def duration(ns: int) -> str:
    """Nanoseconds for people."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= scale:
            return f"{ns / scale:,.1f} {unit}"
    return f"{ns} ns"


def _too_many(found: Evidence, _staleness: int) -> Judgement | None:
    """Nothing is advised for registers that were not judged one by one."""
    if not found.joined:
        return None
    reason = f"{found.joined:,} ranges: the recording writes too many to judge each"
    return Judgement(Verdict.UNPROVEN, reason, found.first_line)


def _strings(found: Evidence, _staleness: int) -> Judgement | None:
    if found.writes:
        return None
    return Judgement(
        Verdict.LEAVE, "string instructions only, which are never queued", found.first_line
    )


def _mapping(found: Evidence, _staleness: int) -> Judgement | None:
    if not found.mapping.count:
        return None
    reason = f"{clause(found.mapping.count, 'write', 'change')} a mapping"
    return Judgement(Verdict.LEAVE, reason, found.mapping.line)


def _read_back(found: Evidence, _staleness: int) -> Judgement | None:
    """Write-one-to-clear, self-clearing, commands: it is not storage."""
    if not found.other_back.count:
        return None
    reads = found.same_back + found.other_back.count
    if found.is_window and found.other_back.count <= reads * (1 - ALWAYS):
        return None
    verdict = Verdict.UNPROVEN if found.is_window else Verdict.LEAVE
    reason = (
        clause(found.other_back.count, "read", "give", reads) + " another value than was written"
    )
    return Judgement(verdict, reason, found.other_back.line)


def _index(found: Evidence, _staleness: int) -> Judgement | None:
    """The index of a pair: the access to its data drains the ring, or is queued behind it.

    Data that repeats under its index and differs between indices shows that the write has no effect
    of its own; then a few may wait long. Without it, what follows must be prompt each time, and in
    memory a value that counts up is rather a tail.
    """
    pair, values = found.pair, found.pair.values
    if not begins_pair(found) or values.echoes or values.changed > values.same * CHANGES:
        return None
    proven = values.selecting >= LEAST
    late = max(1, pair.followed * SELDOM_LATE) if proven else 0
    if values.awaited or values.late > late:
        return None
    if found.to_next is None and proven:
        reason = "an index by its data, but no time stamp tells whether the guest waits after it"
        return Judgement(Verdict.UNPROVEN, reason, pair.line)
    if proven:
        return Judgement(Verdict.COALESCE, _selects(values), pair.line)
    counts = _counts_up(found) and not found.zone.pio
    if (
        found.to_next is None
        or counts
        or pair.beside < ALWAYS * pair.followed
        or values.answers < LEAST
    ):
        return None
    after = duration(found.to_next.p50)
    reason = f"selects what the next access reads or writes: it follows after {after} (p50)"
    return Judgement(Verdict.COALESCE, reason, pair.line)


def _selects(found: Values) -> str:
    late = f"; {plural(found.late, 'write')} would wait long, without effect" if found.late else ""
    return (
        f"selects what the data register returns: {found.same:,} reads repeat under their index, "
        f"{found.changed:,} do not; the next access to the data drains the ring first{late}"
    )


def _counter(found: Evidence, _staleness: int) -> Judgement | None:
    """A ring's tail or a sequence number: the write makes the device go on."""
    if not _counts_up(found):
        return None
    reason = f"{found.counting.count:,} of {found.writes:,} values count up: a tail, a doorbell"
    return Judgement(Verdict.LEAVE, reason, found.counting.line)


def _kernel(found: Evidence, _staleness: int) -> Judgement | None:
    if found.exits or not found.never_exits:
        return None
    reason = "never exits: the kernel answers it, or queues it already"
    return Judgement(Verdict.LEAVE, reason, found.first_line)


def _waits(found: Evidence, staleness: int) -> Judgement | None:
    """A doorbell: nothing follows that drains the ring. A window's own writes fill and drain it."""
    window = found.is_window
    waits = found.to_next if window else found.waits
    if waits is None or _is_memory(found) or (waits.p99 if window else waits.max) <= staleness:
        return None
    often = waits.p50 > staleness
    reason = (
        f"would wait {duration(waits.p50)} (p50), {duration(waits.p99)} (p99), "
        f"{duration(waits.max)} (max)"
    )
    return Judgement(Verdict.LEAVE if often else Verdict.UNPROVEN, reason, found.longest_line)


def _fifo(found: Evidence, _staleness: int) -> Judgement | None:
    if found.is_window or found.repeated.count < max(LEAST, MOSTLY * found.writes):
        return None
    reason = f"{found.repeated.count:,} of {found.writes:,} writes are a stream to one address"
    return Judgement(Verdict.UNPROVEN, f"{reason}: a data port", found.repeated.line)


def _bank(found: Evidence, _staleness: int) -> Judgement | None:
    if found.is_window or not found.before_window.count:
        return None
    reason = (
        clause(found.before_window.count, "write", "come") + " before accesses to a window: a bank"
    )
    return Judgement(Verdict.UNPROVEN, reason, found.before_window.line)


def _window(found: Evidence, _staleness: int) -> Judgement | None:
    """A window of memory: filled in runs, and reads give what was written."""
    if not found.is_window or found.in_range < MOSTLY * found.writes:
        return None
    reason = f"memory: {found.in_range:,} of {found.writes:,} writes are in runs"
    if found.same_back:
        reason += f", {clause(found.same_back, 'read', 'give')} what was written"
    return Judgement(Verdict.COALESCE, reason, found.first_line)


def _storage(found: Evidence, _staleness: int) -> Judgement | None:
    """A register that keeps what is written, and never waited long."""
    if found.waits is None or found.writes < LEAST or found.same_back < LEAST:
        return None
    same = clause(found.same_back, "read", "give")
    reason = f"{same} what was written; waits {duration(found.waits.max)} at most"
    return Judgement(Verdict.UNPROVEN, reason, found.first_line)


_RULES: Final[tuple[Rule, ...]] = (
    _too_many, _strings, _kernel, _mapping, _read_back, _index, _counter, _waits, _fifo, _bank,
    _window, _storage,
)  # fmt: skip


def _counts_up(found: Evidence) -> bool:
    least = max(LEAST, COUNTS * found.writes)
    return not found.is_window and found.counting.count >= least


def _is_memory(found: Evidence) -> bool:
    return found.is_window and found.same_back >= LEAST
