"""Corruptions side by side: every lane's share, the sum of their counts, and their end."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from coalesced.hv.errors import HostError
from coalesced.tools.stress import lanes
from coalesced.tools.stress.lanes import Tell
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.totals import Totals
from helpers.own_streams import own_streams


def run(work: lanes.Work, count: int = 3, enough: int = 1 << 30) -> Totals:
    """The sum in the end; the lanes are ended once there were enough corruptions."""
    seen = [Totals()]

    def step(totals: Totals) -> bool:
        seen.append(totals)
        return totals.corruptions >= enough

    with own_streams():
        lanes.run(work, count, step)
    return seen[-1]


def test_counts_are_summed_and_the_slowest_counts() -> None:
    def work(number: int, _tell: Tell) -> Totals:
        return Totals(corruptions=number + 1, slowest_verdict_seconds=number, failures=["no"])

    totals = run(work)
    assert (totals.corruptions, totals.slowest_verdict_seconds) == (6, 2)
    assert totals.failures == ["no"] * 3


def test_a_lane_that_is_ended_reports_its_counts_once_more() -> None:
    def work(_number: int, tell: Tell) -> Totals:
        try:
            tell(Totals(corruptions=1))
            time.sleep(300)  # until it is interrupted
        except KeyboardInterrupt:
            return Totals(corruptions=1, pairs=7)
        return Totals()

    assert run(work, enough=3).pairs == 21


def test_ctrl_c_ends_every_lane() -> None:
    def work(_number: int, tell: Tell) -> Totals:
        tell(Totals(corruptions=1))
        time.sleep(300)
        return Totals()

    def step(totals: Totals) -> bool:
        if totals.corruptions == 1:
            raise KeyboardInterrupt
        return False

    with own_streams(), pytest.raises(KeyboardInterrupt):
        lanes.run(work, 2, step)


def test_an_error_of_the_host_is_the_run_s() -> None:
    def work(number: int, _tell: Tell) -> Totals:
        if number == 1:
            raise HostError("no more processes")
        return Totals()

    with pytest.raises(HostError, match="no more processes"):
        run(work)


def test_a_lane_that_fails_is_a_failure_of_the_run() -> None:
    def work(number: int, _tell: Tell) -> Totals:
        return Totals(corruptions=1 // number)

    totals = run(work, count=2)
    assert not totals.ok
    assert totals.failures == ["a process that corrupts has failed"]


def test_lanes_take_the_setups_of_one_plan_in_turns() -> None:
    alone, shared = Plan(3, Pins()), [Plan(3, Pins()) for _ in range(2)]
    for number, plan in enumerate(shared):
        plan.take_share(number, 2)
    for turn in range(1, 9):
        setup = shared[turn % 2].next()
        assert replace(setup, lane=0) == alone.next()
        assert setup.lane == turn % 2
