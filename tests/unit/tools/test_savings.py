"""The figures and the line about what coalescing saved or cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from coalesced.tools.runs.options import Accel
from coalesced.tools.runs.report import print_savings
from coalesced.tools.runs.results import (
    Comparison,
    Percentiles,
    Place,
    Ring,
    Run,
    Savings,
    Sides,
    Waits,
    same_state,
)


def entry(
    accel: str, coalescing: bool, exits: int = 10, seconds: float = 1.0, state: str = "s"
) -> Run:
    return Run(
        coalescing=coalescing,
        accel=accel,
        writes=0,
        coalesced=0,
        exits=exits,
        exits_by={},
        stale_drains=0,
        signals=0,
        seconds=seconds,
        ns_per_write=None,
        cpu_seconds=Sides(0.0, 0.0),
        context_switches=Sides(0, 0),
        rss_bytes=Sides(0, 0),
        state=state,
        failed_writes=0,
        failures=(),
        unassigned=0,
        netdevs={},
        start_seconds=None,
        waits=Waits(),
    )


def test_savings_compare_the_coalesced_run_with_the_uncoalesced_one() -> None:
    runs = [
        entry("process", True, 25, 2.0),
        entry("process", False, 100, 5.0),
        entry("direct", False, 1, 0.1),
    ]
    saved = Savings.of(runs)
    assert saved == Savings(exits=0.75, time=2.5)
    assert Savings.of(runs[::-1]) == saved


@pytest.mark.parametrize("left_out", [0, 1])
def test_without_both_runs_there_is_no_saving(left_out: int) -> None:
    runs = [entry("process", True), entry("process", False), entry("direct", False)]
    del runs[left_out]
    assert Savings.of(runs) == Savings()


def test_nothing_to_divide_by_is_no_saving() -> None:
    runs = [entry("process", True, 0, 0.0), entry("process", False, 0, 1.0)]
    assert Savings.of(runs) == Savings()
    more = Savings.of([entry("process", True, 20), entry("process", False, 10)])
    assert more.exits is not None
    assert math.isclose(more.exits, -1.0)


def test_runs_are_identical_when_every_state_is_the_same() -> None:
    assert same_state([entry("process", True), entry("direct", False)])
    assert not same_state([entry("process", True), entry("direct", False, state="t")])


@pytest.mark.parametrize(
    ("plain", "waited", "said"),
    [
        (2.51, None, "without it the guest took 2.5 times as long."),
        (1.04, None, "without it the guest took about as long."),
        (0.96, None, "without it the guest took about as long."),
        (0.5, None, "but with it the guest was 2.0 times slower."),
        (0.5, 3e5, "but with it the guest was 2.0 times slower: 0x20 waited 300.0 ms."),
        (0.96, 3e5, "but with it the guest was 1.04 times slower: 0x20 waited 300.0 ms."),
    ],
)
def test_the_line_names_what_the_guest_gained_or_lost(
    plain: float, waited: float | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = Waits(Percentiles(max=waited), Place(0x20, "pio")) if waited else Waits()
    rings = [Ring("vm", 0, 0, 0, Percentiles()), Ring("own", 25, 1, 0, Percentiles(max=waited))]
    runs = [
        replace(entry("process", True, 25), waits=waits, rings=rings),
        entry("process", False, 100, plain),
    ]
    print_savings(Comparison("guest", Accel.process, runs, Savings.of(runs), True, []))
    assert capsys.readouterr().out == f"Coalescing saved 75.0% of the exits; {said}\n"
