"""The report of `coalesced stress`: one JSON object, or a table and a sentence."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from coalesced.tools.runs import busy
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.report import print_json, print_table
from coalesced.tools.stress.jobs import Result
from coalesced.tools.stress.totals import Totals


@dataclass(frozen=True)
class _Members:
    """The members of the JSON object."""

    totals: Totals = field(metadata=INLINE)
    vcpus: int
    rings: int  # own ones, beside the VM's
    seconds: float
    entries_per_second: float
    broken: str | None
    found: bool | None  # None: nothing is broken
    seed: int
    complete: bool
    others_cpu_share: float
    ok: bool

    @classmethod
    def of(cls, result: Result) -> _Members:
        totals, wanted = result.totals, result.wanted
        return cls(
            totals,
            wanted.vcpus,
            wanted.rings,
            result.seconds,
            _rate(result),
            wanted.broken,
            not totals.ok if wanted.broken else None,
            wanted.seed,
            result.complete,
            result.others_cpu_share,
            totals.ok,
        )


def show(result: Result, json: bool) -> None:
    """Print the report; failures go to stderr."""
    if json:
        print_json(_Members.of(result))
        return
    from rich.table import Table  # noqa: PLC0415 - after the run: start-up time

    title = f"Stress, seed {result.wanted.seed}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in _rows(result):
        table.add_row(name, value)
    print_table(table)
    for failure in result.totals.failures:
        sys.stderr.write(f"coalesced: {failure}\n")
    print(_verdict(result))


def in_short(result: Result) -> str:
    """The counts and the seed in one line."""
    return f"{result.totals.in_short(every=True)}, seed {result.wanted.seed}"


def _rate(result: Result) -> float:
    return result.totals.entries / result.seconds if result.seconds else 0.0


def _rows(result: Result) -> list[tuple[str, str]]:
    wanted, totals = result.wanted, result.totals
    counts: dict[str, float] = {
        "vCPUs of each pair": wanted.vcpus,
        "own rings of each pair": wanted.rings,
        "pairs of processes": totals.pairs,
        "  that posted writes": totals.posted_pairs,
        "entries": totals.entries,
        "entries per second": round(_rate(result)),
        "lost": totals.lost,
        "duplicated": totals.duplicated,
        "redelivered": totals.redelivered,
        "reordered": totals.reordered,
        "torn": totals.torn,
        "loads checked": totals.loads,
        "  wrong": totals.wrong_loads,
    }
    if wanted.stop:
        counts["stops"] = totals.stops
    if wanted.kill:
        counts["kills"] = totals.kills
        counts["  recovered"] = totals.recovered
        counts["  slowest notice, ms"] = totals.slowest_notice_seconds * 1e3
    if wanted.corrupts:
        counts["corruptions"] = totals.corruptions
        counts["  detected"] = totals.corruptions_detected
        counts["  harmless"] = totals.corruptions_harmless
        counts["  slowest verdict, ms"] = totals.slowest_verdict_seconds * 1e3
    counts |= {"leaked segments": totals.leaked_segments, "seconds": result.seconds}
    rows = [(n, f"{c:,}" if isinstance(c, int) else f"{c:,.1f}") for n, c in counts.items()]
    return [*rows, ("CPU time of other processes", busy.remark(result.others_cpu_share))]


def _verdict(result: Result) -> str:
    totals, wanted = result.totals, result.wanted
    if result.complete and wanted.broken:
        return f"The fault of {wanted.broken} was {'not found' if totals.ok else 'found'}."
    if not totals.ok:
        return f"{totals.failed:,} PAIRS WENT WRONG."
    return "Nothing is wrong." if result.complete else "Interrupted; nothing was wrong so far."
