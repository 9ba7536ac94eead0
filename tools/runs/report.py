"""Tables and lines for people; a command prints these or one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from coalesced.hv.printable import printable
from coalesced.tools.errors import warn
from coalesced.tools.runs.json_members import print_json
from coalesced.tools.runs.words import plural

if TYPE_CHECKING:
    from rich.table import Table

    from coalesced.tools.runs.results import Comparison, Percentiles, Run, Sides, SleptOn

__all__ = ["print_json"]

SLEPT_LEAST_US = 1000.0  # shorter waits of a sleeping guest are not worth a warning

Cell = Callable[["Run"], str]

_NO_ROWS: Mapping[str, Cell] = MappingProxyType({})


def print_table(table: Table) -> None:
    """Print a table, as wide as it needs to be."""
    from rich.console import Console  # noqa: PLC0415

    Console(soft_wrap=True, markup=False).print(table)


def print_rows(title: str, rows: Mapping[str, str]) -> None:
    """Print a table of names and values."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")  # similar names differ at their ends
    for name, value in rows.items():
        table.add_row(name, value)
    print_table(table)


def show(title: str, result: Comparison, as_json: bool) -> int:
    """Print a comparison; the exit status, 1 when it is not ok."""
    if as_json:
        print_json(result)
    else:
        print_comparison(title, result)
    print_failures(result.runs)
    return 0 if result.ok else 1


def print_comparison(
    title: str, result: Comparison, more: Mapping[str, Cell] = _NO_ROWS, identical: str = ""
) -> None:
    """The table of the runs and a line for each finding.

    `more`: further rows at its top, by their names; `identical`: the line about the states.
    """
    runs = result.runs
    print_runs(title, runs, more)
    print_savings(result)
    if identical:
        print(identical)
    elif len(runs) > 1:
        print("All runs ended in the same state." if result.identical else "THE STATES DIFFER.")
    if result.hottest:
        hottest = [f"{hot.kind} {hot.address:#x} ({hot.exits:,})" for hot in result.hottest[:5]]
        print(f"Most exits: {', '.join(hottest)}")
    if runs:
        print_rings(runs[0])
        print_unanswered(runs[0])
    if result.png is not None:
        print(f"The screen: {result.png}")


def print_rings(run: Run) -> None:
    """A line about the rings, where there is more than one."""
    if len(run.rings) > 1:
        told = [
            f"{ring.name} {ring.coalesced:,} in {ring.drains:,}"
            + (f" ({ring.wakeups:,} at half full)" if ring.wakeups else "")
            + (f", waited up to {_duration(ring.wait_us.max)}" if ring.wait_us.max else "")
            for ring in run.rings
        ]
        print(f"Writes in drains, by ring: {'; '.join(told)}")


def print_unanswered(run: Run) -> None:
    """A line for each of the addresses that no device answers, five at most, and for the rest."""
    shown = run.unanswered[:5]
    for found in shown:
        pc = f"; a PC has there: {found.missing}" if found.missing else ""
        print(
            f"No device at {found.kind} {found.address:#x}: {plural(found.accesses, 'access')}{pc}"
        )
    if addresses := run.unassigned_addresses - len(shown):
        accesses = run.unassigned - sum(found.accesses for found in shown)
        print(f"No device at {plural(addresses, 'more address')}: {plural(accesses, 'access')}")


def print_runs(title: str, runs: Sequence[Run], more: Mapping[str, Cell] = _NO_ROWS) -> None:
    """A table with a column per run; `more`: further rows at its top, by their names."""
    from rich.table import Table  # noqa: PLC0415 - after the runs: start-up time

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(run.heading, justify="right")
    for name, cell in {**more, **_ROWS}.items():
        table.add_row(name, *(cell(run) for run in runs))
    print_table(table)


_ROWS: Mapping[str, Cell] = MappingProxyType(
    {
        "device writes": lambda r: f"{r.writes:,}",
        "queued in the ring": lambda r: f"{r.coalesced:,}",
        "exits": lambda r: f"{r.exits:,}",
        "  by": lambda r: by_reason(r.exits_by, "\n"),
        "no device there": lambda r: f"{r.unassigned:,}",
        "waited, p50 / p99 / max, µs": lambda r: wait(r.waits.wait_us),
        "pipe writes": lambda r: f"{r.signals:,}",
        "time, ms": lambda r: f"{r.seconds * 1e3:,.1f}",
        "per write, ns": lambda r: "-" if r.ns_per_write is None else f"{r.ns_per_write:,.0f}",
        "CPU guest + VMM, ms": lambda r: _pair(r.cpu_seconds, 1e3, "{:,.0f}"),
        "context switches guest + VMM": lambda r: _pair(r.context_switches, 1, "{:,.0f}"),
        "resident guest + VMM, MiB": lambda r: _pair(r.rss_bytes, 1 / (1 << 20), "{:,.1f}"),
        "state": lambda r: r.state[:12],
    }
)


_ALIKE: Final = 1.05
"""Two single runs of one program differ by as much."""


def by_reason(exits_by: Mapping[str, int], separator: str) -> str:
    """The reasons that had exits, with their counts."""
    return separator.join(f"{reason} {count:,}" for reason, count in exits_by.items() if count)


def _pair(pair: Sides[int] | Sides[float], scale: float, form: str) -> str:
    return f"{form.format(pair.hv * scale)} + {form.format(pair.vmm * scale)}"


def print_savings(result: Comparison) -> None:
    """A line about what coalescing saved or cost; where it cost time, the write that waited."""
    saved = result.savings
    if saved.exits is None or saved.time is None:
        return
    line = f"Coalescing saved {saved.exits:.1%} of the exits; "
    blame = _blame(next(run for run in result.runs if run.coalescing))
    if not blame and 1 / _ALIKE <= saved.time <= _ALIKE:
        print(f"{line}without it the guest took about as long.")
    elif saved.time >= 1:
        print(f"{line}without it the guest took {_times(saved.time)} times as long.")
    else:
        slower = f"but with it the guest was {_times(1 / saved.time)} times slower"
        print(f"{line}{slower}{blame}.")


def _times(factor: float) -> str:
    if factor >= 100:
        return f"{factor:,.0f}"
    return f"{factor:.2f}" if factor < 1.1 else f"{factor:.1f}"


def _blame(run: Run) -> str:
    """The address whose write waited for a tenth of the run or longer, if there is one."""
    at = run.waits.waited_longest
    longest = max((ring.wait_us.max or 0.0 for ring in run.rings), default=0.0)
    if at is None or longest < run.seconds * 1e6 / 10:
        return ""
    return f": {at.address:#x} waited {_duration(longest)}"


def _duration(us: float) -> str:
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if us >= scale:
            return f"{us / scale:,.1f} {unit}"
    return f"{us:,.1f} µs"


def wait(wait_us: Percentiles) -> str:
    """The median, the 99th percentile and the longest wait."""
    known = [us for us in (wait_us.p50, wait_us.p99, wait_us.max) if us is not None]
    return " / ".join(f"{us:,.1f}" for us in known) or "-"


def one_line(run: Run) -> str:
    """The most important counts of a run."""
    return (
        f"{run.heading}: {run.writes:,} device writes, {run.coalesced:,} of them queued, "
        f"{run.exits:,} exits, {run.seconds * 1e3:,.1f} ms"
    )


def print_failures(runs: Sequence[Run]) -> None:
    """Write to stderr, per run: warnings, wrong loads, accesses whose device raised."""
    for run in runs:
        for found in run.waits.slept_on:
            if found.wait_us >= SLEPT_LEAST_US:
                warn(f"warning: {run.heading}: {_slept_on(found)}")
    for run in runs:
        for line in [*_mismatches(run), *map(printable, run.failures)]:
            print(f"{run.heading}: {line}", file=sys.stderr)
        if more := run.failed_writes - len(run.failures):
            print(f"{run.heading}: {more:,} more failed", file=sys.stderr)


def _slept_on(found: SleptOn) -> str:
    return (
        f"the guest slept while writes to {found.address:#x}+{found.size:#x} "
        f"({found.region or 'unassigned'}) were queued: {found.writes:,} of them, which waited "
        f"up to {_duration(found.wait_us)}"
    )


def _mismatches(run: Run) -> Iterator[str]:
    if run.loads is None:
        return
    for wrong in run.loads.load_mismatches:
        yield (
            f"{wrong.kind} read of {wrong.size} bytes at {wrong.address:#x}: "
            f"recorded {wrong.expected:#x}, got {wrong.got:#x}"
        )
    differing = run.loads.loads_checked - run.loads.loads_matching
    if more := differing - len(run.loads.load_mismatches):
        yield f"{more:,} more reads differ"
    if run.loads.copies_differing_bytes:
        yield (
            f"{run.loads.copies_differing_bytes} bytes that read_memory gave differ from the "
            "recording"
        )
