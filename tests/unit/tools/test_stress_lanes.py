"""Corruptions side by side: every lane's share, the sum of their counts, and their end."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coalesced.hv.doorbell import WaitPolicy, effective
from coalesced.hv.errors import HostError
from coalesced.tools.stress import lanes
from coalesced.tools.stress.lanes import Tell
from coalesced.tools.stress.pair import Pair
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
        if totals.corruptions:  # of one lane, or of both: their reports may come together
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


class Told:
    """In a report: makes a call when it is sent, and another one when it is taken."""

    def __init__(self, sent: Any, taken: Any, argument: str) -> None:
        self._sent, self._taken = sent, (taken, (argument,))

    def __reduce__(self) -> Any:
        self._sent()
        return self._taken


def end_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_lane_that_is_ended_while_it_reports_has_not_failed() -> None:
    def work(_number: int, _tell: Tell) -> Totals:
        return Totals(pairs=1, failures=[cast("str", Told(end_self, str, "found"))])

    totals = run(work, 2)
    assert (totals.pairs, totals.failures) == (2, ["found"] * 2)


def test_a_lane_that_is_ended_before_it_works_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "reap_orphans", end_self)
    totals = run(lambda _number, _tell: Totals(pairs=1), 2)
    assert (totals.pairs, totals.failures) == (0, [])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes of lanes, of which there is no third one."""
    pids, fork = list[int](), os.fork

    def forked() -> int:
        if len(pids) == 2:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pids.append(fork())
        return pids[-1]

    monkeypatch.setattr(os, "fork", forked)
    return pids


def assert_awaited(pids: list[int]) -> None:
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert len(pids) == 2


def test_lanes_end_when_a_further_one_cannot_start(started: list[int]) -> None:
    def work(_number: int, _tell: Tell) -> Totals:
        time.sleep(300)
        return Totals()

    with pytest.raises(HostError, match=r"^no process for corruptions: Resource temp"):
        run(work)
    assert_awaited(started)


def test_every_lane_is_awaited_although_what_they_report_is_an_error(started: list[int]) -> None:
    begun = os.eventfd(0)

    def work(number: int, _tell: Tell) -> Totals:
        if number == 1:
            os.eventfd_read(begun)
        else:
            try:
                os.eventfd_write(begun, 1)
                time.sleep(300)  # until it is interrupted, as the other one's report is an error
            except KeyboardInterrupt:
                pass
        return Totals(failures=[cast("str", Told(lambda: None, int, "no number"))])

    with pytest.raises(ValueError, match="no number"):
        run(work, 2)
    os.close(begun)
    assert_awaited(started)


def test_a_long_report_arrives_whole() -> None:
    failure = "x" * 150_000
    assert run(lambda _number, _tell: Totals(failures=[failure]), 1).failures == [failure]


def test_lanes_take_the_setups_of_one_plan_in_turns() -> None:
    alone, shared = Plan(3, Pins()), [Plan(3, Pins()) for _ in range(2)]
    for number, plan in enumerate(shared):
        plan.take_share(number, 2)
    for turn in range(1, 9):
        setup = shared[turn % 2].next()
        assert replace(setup, lane=0) == alone.next()
        assert setup.lane == turn % 2


def test_pairs_on_the_same_cpu_wait_for_each_other(tmp_path: Path) -> None:
    """Those on others do not: each lane notes when it begins and ends to use its CPUs."""
    notes, cpus = tmp_path / "notes", lanes.Cpus()
    notes.touch()
    used = ({0}, {0, 1}, {1})

    def work(number: int, _tell: Tell) -> Totals:
        for _ in range(200):
            with cpus.taken(used[number]):
                with notes.open("a") as file:
                    file.write(f"{number} ")
                os.sched_yield()
                with notes.open("a") as file:
                    file.write(f"{~number} ")
        return Totals()

    lanes.run(work, len(used), lambda _totals: False)
    inside = set[int]()
    for note in map(int, notes.read_text().split()):
        if note < 0:
            inside.remove(~note)
            continue
        assert all(used[note].isdisjoint(used[other]) for other in inside)
        inside.add(note)


def test_a_pair_is_placed_on_the_cpu_of_its_lane_and_the_next_one() -> None:
    setup = replace(Plan(1, Pins(wait="poll", cpus="split")).next(), lane=1)
    assert setup.cpus_of(2) == {0, 1}
    assert replace(setup, cpus="same").cpus_of(2) == {1}
    assert setup.cpus_of(1) == {0}


def test_a_pair_spins_as_its_policy_does_where_it_is_placed() -> None:
    """The policy in effect is that of the accelerator."""
    setup = Plan(1, Pins()).next()
    placed = {"same": ({0}, {0}), "split": ({0}, {1})}
    for (cpus, sides), policy in product(placed.items(), WaitPolicy):
        spins = replace(setup, wait=policy.name.lower(), cpus=cpus).spins
        assert spins == (effective(policy, *sides) is not WaitPolicy.BLOCK)


def test_a_full_machine_ends_the_run_as_no_fault_of_the_ring() -> None:
    said = {"type": "RequestError", "text": "no room for ring: 65536 bytes wanted, 0 bytes free"}
    pair = SimpleNamespace(wait=lambda _report: False, last=said, errors=str)
    with pytest.raises(HostError, match=r"does not start: RequestError no room for ring: 65536"):
        Pair.starts(pair)  # type: ignore[arg-type]
