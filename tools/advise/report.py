"""Prints an advice within 80 columns, and the zones for QEMU's C, for Python and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from coalesced.tools.advise.advice import Advice, RangeAdvice
from coalesced.tools.advise.verdicts import Verdict, duration
from coalesced.tools.advise.whatif import WhatIf
from coalesced.tools.runs.words import plural
from coalesced.vmm.zone import Zone

if TYPE_CHECKING:
    from coalesced.tools.advise.verify import Verified

WIDTH = 79
SHOWN = 8
BELLS = 4  # doorbells that are shown


def lines(advice: Advice) -> Iterator[str]:
    """The report."""
    yield from _recording(advice)
    yield from _model(advice)
    yield from _savings(advice)
    if advice.verified is not None:
        yield from _proof(advice.verified)
    for verdict in Verdict:
        found = [each for each in advice.ranges if each.verdict is verdict]
        yield ""
        yield f"{verdict.upper()}: {plural(len(found), 'range')}"
        for each in found[:SHOWN]:
            yield from _range(each, several=bool(advice.recordings))
        if len(found) > SHOWN:
            yield f"  and {len(found) - SHOWN:,} more, see --json"
    yield from _what_if(advice.what_if)


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, subsequent_indent=indent)


def _recording(advice: Advice) -> Iterator[str]:
    read = advice.lines
    yield from _wrapped(f"Advice on {advice.trace}: {advice.format}")
    span = "" if advice.seconds is None else f", {advice.seconds:,.3f} s"
    yield f"{plural(read.events, 'event')} of {plural(advice.threads, 'thread')}{span}"
    counts = ", ".join(f"{name} {count:,}" for name, count in advice.counts.items())
    yield from _wrapped(f"by kind: {counts}", "  ")
    for count, what, text in (
        (read.foreign, "line", "skipped: not an event of this format"),
        (read.lost_marks, "mark", "of lost events: figures from there on may be wrong"),
        (advice.string_accesses, "string instruction", "with only the first value known"),
        (advice.in_kernel, "access", "to the kernel's own interrupt controllers"),
        (sum(read.apart.values()), "line", "left out: addresses that are offsets in a region"),
    ):
        if count:
            yield f"{plural(count, what)} {text}"
    for path in read.cut:
        yield from _wrapped(f"{path} ends too early: the part before its end is judged", "  ")


def _model(advice: Advice) -> Iterator[str]:
    agreed = advice.agreement
    if agreed is None:
        yield "The recording has no exits: each access counts as one, no zone is in force."
        return
    zones = ", ".join(map(str, advice.zones_in_force)) or "none"
    yield from _wrapped(f"Zones in force: {zones}", "  ")
    if not agreed.writes:
        yield "No write falls into one: the ring's rules are held against nothing."
        return
    yield from _wrapped(
        f"The ring's rules agree on {agreed.agreed:,} of {agreed.writes:,} writes in zones: "
        f"{agreed.exits:,} exit, {agreed.predicted:,} are predicted to.",
        "  ",
    )
    if agreed.unseen_drains:
        yield from _wrapped(
            f"{agreed.explained:,} more agree with drains that no line shows "
            f"({agreed.unseen_drains:,}): another thread's, such as a display's, or lost events.",
            "  ",
        )
    if agreed.disagreements:
        numbers = ", ".join(map(str, agreed.disagreements))
        yield from _wrapped(
            f"Nothing explains lines {numbers}. If Linux before 6.12 recorded, give --kernel.", "  "
        )


def _savings(advice: Advice) -> Iterator[str]:
    share = (advice.exits - advice.exits_advised) / max(advice.exits, 1)
    yield ""
    yield (
        f"Exits now {advice.exits:,}, with the advice {advice.exits_advised:,}: {share:.1%} saved"
    )
    if advice.exit_cost is not None:
        cost = f"{advice.exit_cost.ns:,.0f} ns per exit ({advice.exit_cost.source})"
        saved = duration(round((advice.seconds_saved or 0) * 1e9))
        yield from _wrapped(f"{saved} saved at {cost}", "  ")
    yield from _wrapped(f"Zones to add: {', '.join(map(str, advice.advised)) or 'none'}", "  ")
    for each in advice.recordings[:SHOWN]:
        yield from _wrapped(
            f"  {each.trace}: {each.exits:,}, with the advice {each.exits_advised:,}", "    "
        )
    if len(advice.recordings) > SHOWN:
        yield f"  and {plural(len(advice.recordings) - SHOWN, 'recording')} more, see --json"


def _what_if(found: WhatIf) -> Iterator[str]:
    yield ""
    yield "WHAT IF: exits with the advice and with"
    pages = ", ".join(f"{p}: {count:,}" for p, count in found.ring_pages.items())
    yield from _wrapped(f"a ring of N pages: {pages}", "  ")
    yield f"a ring for each zone: {found.ring_per_zone:,}"
    yield f"a ring for each device: {found.ring_per_device:,}"
    limits = ", ".join(
        f"{ms}: {stale.exits:,} ({plural(stale.late, 'write')} would wait longer without it)"
        for ms, stale in (found.staleness_ms or {}).items()
    )
    if limits:
        yield from _wrapped(f"a limit in ms on the wait of a write: {limits}", "  ")
    for bell in found.ioeventfds[:BELLS]:
        yield from _wrapped(
            f"an ioeventfd at {bell.zone} for the value {bell.value:#x}: {bell.exits:,} fewer, "
            "if the write is a doorbell and the device may act later",
            "  ",
        )
    if len(found.ioeventfds) > BELLS:
        yield f"  and {len(found.ioeventfds) - BELLS:,} more, see --json"


def _proof(proof: Verified) -> Iterator[str]:
    processes = "KVM" if proof.accel == "kvm" else "two processes"
    exits = "as predicted" if proof.exits_equal else f"{proof.exits_predicted:,} predicted"
    loads = "equal to" if proof.loads_equal else "NOT EQUAL TO"
    state = "equal" if proof.state_equal else "NOT EQUAL"
    yield from _wrapped(
        f"Verified by a replay of {proof.accesses:,} accesses ({processes}): "
        f"{proof.exits:,} exits, {exits}; {proof.loads_checked:,} loads {loads} those without "
        f"these zones, the state at the end {state}.",
        "  ",
    )
    for dropped in proof.dropped:
        yield from _wrapped(f"TAKEN OUT: {dropped.zone}: {dropped.reason}", "  ")
    for what, counts in (
        ("Not replayed", proof.not_replayed),
        ("Not checked, as they depend on time", proof.unchecked),
        ("Not on this machine", proof.missing),
    ):
        if counts:
            named = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            yield from _wrapped(f"{what}: {named}", "  ")


def evidence(each: RangeAdvice, several: bool) -> str:
    """The reason of a verdict, and the line that shows it; of which recording, if several."""
    of = f" of {each.trace}" if several else ""
    return each.reason if each.line is None else f"{each.reason} (line {each.line:,}{of})"


def _range(each: RangeAdvice, *, several: bool) -> Iterator[str]:
    name = f" {each.name}" if each.name else ""
    force = ", in force" if each.in_force else ""
    saves = "" if each.saves is None else f", saves {each.saves:,}"
    yield from _wrapped(
        f"{each.zone}{name}: {plural(each.writes, 'write')}, {plural(each.reads, 'read')}, "
        f"{plural(each.exits, 'exit')} "
        f"({each.share:.1%}){saves}{force}",
        "    ",
    )
    text = evidence(each, several)
    yield from textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def zones_as(form: str, zones: Sequence[Zone]) -> str:
    """The zones as lines of `c`, `python` or `json`."""
    if form == "c":
        return "\n".join(
            f"memory_region_add_coalescing(mr, {zone.address:#x} - base, {zone.size:#x});"
            f" /* {'ports' if zone.pio else 'memory'} */"
            for zone in zones
        )
    if form == "python":
        kinds = {"memory": False, "ports": True}
        return "\n".join(
            f"coalesced=({pairs})  # {kind}"
            for kind, pio in kinds.items()
            if (pairs := _pairs([zone for zone in zones if zone.pio is pio]))
        )
    return json.dumps([{"addr": z.address, "size": z.size, "pio": int(z.pio)} for z in zones])


def _pairs(zones: Sequence[Zone]) -> str:
    return " ".join(f"({zone.address:#x} - base, {zone.size:#x})," for zone in zones)
