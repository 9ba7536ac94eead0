"""What `coalesced stress` says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from coalesced.tools.runs.report import print_json, print_table
from coalesced.tools.stress.session import Result
from coalesced.tools.stress.totals import Totals

if TYPE_CHECKING:
    from coalesced.tools.commands.stress import Wanted


def show(wanted: Wanted, result: Result, json: bool) -> None:
    """One JSON object, or a table and a sentence."""
    if json:
        print_json(as_json(wanted, result))
        return
    from rich.table import Table  # noqa: PLC0415 - after the run: start-up time

    totals = result.totals
    table = Table(title=f"Stress, seed {wanted.seed}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rate = totals.entries / result.seconds if result.seconds else 0.0
    rows: dict[str, str] = {
        "pairs of processes": f"{totals.pairs:,}",
        "entries": f"{totals.entries:,}",
        "a second": f"{rate:,.0f}",
        "lost": f"{totals.lost:,}",
        "duplicated": f"{totals.duplicated:,}",
        "redelivered": f"{totals.redelivered:,}",
        "reordered": f"{totals.reordered:,}",
        "torn": f"{totals.torn:,}",
        "loads checked": f"{totals.loads:,}",
        "  wrong": f"{totals.wrong_loads:,}",
    }
    if wanted.stop:
        rows["stops"] = f"{totals.stops:,}"
    if wanted.kill:
        rows["kills"] = f"{totals.kills:,}"
        rows["  recovered"] = f"{totals.recovered:,}"
        rows["  slowest notice, ms"] = f"{totals.slowest_notice * 1e3:,.1f}"
    if wanted.corrupt:
        rows["corruptions"] = f"{totals.corruptions:,}"
        rows["  detected"] = f"{totals.detected:,}"
        rows["  harmless"] = f"{totals.harmless:,}"
        rows["  slowest verdict, ms"] = f"{totals.slowest_verdict * 1e3:,.1f}"
    rows["leaked segments"] = f"{totals.leaked_segments:,}"
    rows["seconds"] = f"{result.seconds:,.1f}"
    for name, value in rows.items():
        table.add_row(name, value)
    print_table(table)
    for failure in totals.failures:
        sys.stderr.write(f"coalesced: {failure}\n")
    if not result.complete:
        print("Interrupted; nothing was wrong so far." if totals.ok else _wrong(totals))
    elif wanted.broken:
        found = "not found" if totals.ok else "found"
        print(f"The ring with {wanted.broken} broken: {found}.")
    else:
        print("Nothing is wrong." if totals.ok else _wrong(totals))


def _wrong(totals: Totals) -> str:
    return f"{totals.failed:,} PAIRS WENT WRONG."


def as_json(wanted: Wanted, result: Result) -> dict[str, object]:
    """The object of --json."""
    totals = result.totals
    return {
        "entries": totals.entries,
        "lost": totals.lost,
        "duplicated": totals.duplicated,
        "redelivered": totals.redelivered,
        "reordered": totals.reordered,
        "torn": totals.torn,
        "seconds": result.seconds,
        "entries_per_second": totals.entries / result.seconds if result.seconds else 0.0,
        "kills": totals.kills,
        "recovered": totals.recovered,
        "slowest_notice_seconds": totals.slowest_notice,
        "stops": totals.stops,
        "corruptions": totals.corruptions,
        "corruptions_detected": totals.detected,
        "corruptions_harmless": totals.harmless,
        "slowest_verdict_seconds": totals.slowest_verdict,
        "loads": totals.loads,
        "wrong_loads": totals.wrong_loads,
        "leaked_segments": totals.leaked_segments,
        "pairs": totals.pairs,
        "broken": wanted.broken,
        "found": not totals.ok if wanted.broken else None,
        "failures": totals.failures,
        "seed": wanted.seed,
        "complete": result.complete,
        "ok": totals.ok,
    }
