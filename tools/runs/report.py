"""What a command says: one JSON object, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from coalesced.hv.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

Run = dict[str, object]
Cell = Callable[[Run], str]

SLEPT_LEAST_US = 1000.0  # shorter waits of a sleeping guest are not worth a warning

_NO_ROWS: Mapping[str, Cell] = MappingProxyType({})


def print_json(result: dict[str, object]) -> None:
    """One object on stdout, nothing else."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def savings(runs: Sequence[Run]) -> dict[str, float | None]:
    """What the coalesced run saved against the uncoalesced one; None where one is missing.

    `exits`: share of exits saved, 0 to 1. `time`: uncoalesced seconds by coalesced seconds.
    """
    coalesced = next((r for r in runs if r["coalescing"]), None)
    plain = next((r for r in runs if not r["coalescing"] and r["accel"] != "direct"), None)
    if coalesced is None or plain is None:
        return {"exits": None, "time": None}
    exits, plain_exits = _number(coalesced["exits"]), _number(plain["exits"])
    seconds, plain_seconds = _number(coalesced["seconds"]), _number(plain["seconds"])
    return {
        "exits": 1 - exits / plain_exits if plain_exits else None,
        "time": plain_seconds / seconds if seconds else None,
    }


def identical(runs: Sequence[Run]) -> bool:
    """Did every run end in the same state?"""
    return len({run["state"] for run in runs}) == 1


def print_table(table: Table) -> None:
    """Print a table, as wide as it needs to be."""
    from rich.console import Console  # noqa: PLC0415

    Console(soft_wrap=True, markup=False).print(table)


def print_runs(title: str, runs: Sequence[Run], more: Mapping[str, Cell] = _NO_ROWS) -> None:
    """A table with a column per run; `more`: further rows at its top, by their names."""
    from rich.table import Table  # noqa: PLC0415 - after the runs: start-up time

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(_heading(run), justify="right")
    rows: dict[str, Cell] = {
        **more,
        "device writes": lambda r: f"{r['writes']:,}",
        "queued in the ring": lambda r: f"{r['coalesced']:,}",
        "exits": lambda r: f"{r['exits']:,}",
        "  by": lambda r: _by(r["exits_by"]),
        "no device there": lambda r: f"{r['unassigned']:,}",
        "waited, p50 / p99 / max, µs": lambda r: wait(r["wait_us"]),
        "pipe writes": lambda r: f"{r['signals']:,}",
        "time, ms": lambda r: f"{_number(r['seconds']) * 1e3:,.1f}",
        "per write, ns": lambda r: (
            "-" if r["ns_per_write"] is None else f"{r['ns_per_write']:,.0f}"
        ),
        "CPU guest + VMM, ms": lambda r: _pair(r["cpu_seconds"], 1e3, "{:,.0f}"),
        "context switches guest + VMM": lambda r: _pair(r["context_switches"], 1, "{:,.0f}"),
        "resident guest + VMM, MiB": lambda r: _pair(r["rss_bytes"], 1 / (1 << 20), "{:,.1f}"),
        "state": lambda r: str(r["state"])[:12],
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(run) for run in runs))
    print_table(table)


def print_savings(runs: Sequence[Run]) -> None:
    """A line about what coalescing saved, or cost, and what waited in the ring meanwhile."""
    saved = savings(runs)
    if saved["exits"] is not None and saved["time"] is not None:
        line = f"Coalescing saved {saved['exits']:.1%} of the exits; {_in_words(saved['time'])}"
        coalesced = next(run for run in runs if run["coalescing"])
        print(f"{line}{_blame(coalesced) if saved['time'] < 1 else ''}.")


def _in_words(ratio: float) -> str:
    """What the times come to: uncoalesced seconds by coalesced seconds."""
    if ratio >= 1:
        return f"without it the guest took {_times(ratio)} times as long"
    return f"but with it the guest was {_times(1 / ratio)} times slower"


def _times(factor: float) -> str:
    if factor >= 100:
        return f"{factor:,.0f}"
    return f"{factor:.2f}" if factor < 1.1 else f"{factor:.1f}"


def _blame(run: Run) -> str:
    """The address whose write waited for a good part of the run, if there is one."""
    at, wait_us = run["waited_longest"], run["wait_us"]
    assert isinstance(wait_us, dict)
    if not isinstance(at, dict) or wait_us["max"] < _number(run["seconds"]) * 1e6 / 10:
        return ""
    return f": {at['address']:#x} waited {_duration(wait_us['max'])}"


def print_slept_on(runs: Sequence[Run]) -> None:
    """A warning for each range with writes that were queued while the guest slept."""
    for run in runs:
        slept_on = run["slept_on"]
        assert isinstance(slept_on, list)
        for found in slept_on:
            if found["wait_us"] >= SLEPT_LEAST_US:
                sys.stderr.write(
                    f"coalesced: warning: {_heading(run)}: the guest slept while writes to "
                    f"{found['address']:#x}+{found['size']:#x} ({found['region'] or 'unassigned'}) "
                    f"were queued: {found['writes']:,} of them, which waited up to "
                    f"{_duration(found['wait_us'])}\n"
                )


def _duration(us: float) -> str:
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if us >= scale:
            return f"{us / scale:,.1f} {unit}"
    return f"{us:,.1f} µs"


def wait(wait_us: object) -> str:
    """p50, p99 and the longest."""
    assert isinstance(wait_us, dict)
    known = [wait_us[name] for name in ("p50", "p99", "max")]
    return "-" if None in known else " / ".join(f"{us:,.1f}" for us in known)


def print_identical(runs: Sequence[Run]) -> None:
    """One line about the states."""
    if len(runs) > 1:
        print("All runs ended in the same state." if identical(runs) else "THE STATES DIFFER.")


def print_hottest(hot: Sequence[dict[str, object]]) -> None:
    """One line: where the exits came from that were left."""
    if hot:
        places = ", ".join(f"{h['kind']} {h['address']:#x} ({h['exits']:,})" for h in hot[:5])
        print(f"Most exits: {places}")


def one_line(run: Run) -> str:
    """The most important counts of a run."""
    return (
        f"{_heading(run)}: {run['writes']:,} device writes, {run['coalesced']:,} of them queued, "
        f"{run['exits']:,} exits, {_number(run['seconds']) * 1e3:,.1f} ms"
    )


def mismatching(run: Run) -> bool:
    """Did a guest that runs as recorded get something else than recorded?"""
    return run.get("loads_matching") != run.get("loads_checked") or bool(
        run.get("copies_differing_bytes")
    )


def print_failures(runs: Sequence[Run]) -> None:
    """The accesses whose device raised, and the loads that gave what they should not, of all
    runs."""
    print_slept_on(runs)
    for run in runs:
        _print_mismatches(run)
    for run in runs:
        failures = run["failures"]
        assert isinstance(failures, list)
        for line in failures:
            print(f"{_heading(run)}: {printable(line)}", file=sys.stderr)


def _print_mismatches(run: Run) -> None:
    mismatches = run.get("load_mismatches", [])
    assert isinstance(mismatches, list)
    for wrong in mismatches:
        print(
            f"{_heading(run)}: {wrong['kind']} read of {wrong['size']} bytes at "
            f"{wrong['address']:#x}: recorded {wrong['expected']:#x}, got {wrong['got']:#x}",
            file=sys.stderr,
        )
    if run.get("copies_differing_bytes"):
        print(
            f"{_heading(run)}: {run['copies_differing_bytes']} bytes that read_memory gave differ "
            "from the recording",
            file=sys.stderr,
        )


def _heading(run: Run) -> str:
    if run["accel"] == "direct":
        return "direct"
    return f"{run['accel']}, {'coalesced' if run['coalescing'] else 'every write exits'}"


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _by(by: object) -> str:
    assert isinstance(by, dict)
    return "\n".join(f"{reason} {count:,}" for reason, count in by.items() if count)


def _pair(pair: object, scale: float, form: str) -> str:
    assert isinstance(pair, dict)
    return " + ".join(form.format(_number(pair[side]) * scale) for side in ("hv", "vmm"))
