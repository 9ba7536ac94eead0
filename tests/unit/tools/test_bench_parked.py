"""Machines whose guest process is stopped between two measurements."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from coalesced.hv.errors import RequestError
from coalesced.tools.bench import host
from coalesced.tools.bench.parked import Parked
from coalesced.tools.guests import bench as guest
from helpers.vmm_cli import until

EXITS = "coalesced.tools.guests.bench:exits"


@pytest.fixture
def parked() -> Iterator[Parked]:
    with closing(Parked()) as made:
        yield made


def _is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_the_guest_process_runs_only_within_a_block(parked: Parked) -> None:
    with parked.building(EXITS):
        parked.add_control()
    until(lambda: _is_stopped(parked.pid))
    with parked.awake():
        until(lambda: not _is_stopped(parked.pid))
    until(lambda: _is_stopped(parked.pid))


def test_the_guest_carries_out_each_command(parked: Parked) -> None:
    with parked.building(EXITS):
        parked.add_control()
    exits = []
    for loads in (5, 7):
        before = parked.machine.counters.exits
        parked.command = loads | guest.PROBE << 32
        assert parked.resume() > 0
        exits.append(parked.machine.counters.exits - before)
    assert exits == [5 + 2, 7 + 2]  # with the load of the command, and the halt


@pytest.mark.parametrize("placement", [*host.placements(), "any"])
def test_each_side_runs_on_its_cpu(placement: str) -> None:
    before = os.sched_getaffinity(0)
    with closing(Parked(placement=placement)) as parked:
        with parked.building(EXITS):
            parked.add_control()
        assert os.sched_getaffinity(0) == before
        with parked.awake():
            cpus = os.sched_getaffinity(0), os.sched_getaffinity(parked.pid)
        assert os.sched_getaffinity(0) == before
    alone = tuple({cpu} for cpu in host.cpus_of(placement))
    assert cpus == ((before, before) if placement == "any" else alone)


def test_a_part_that_cannot_be_built_ends_the_guest_process() -> None:
    parked = Parked()
    with pytest.raises(ZeroDivisionError), parked.building(EXITS):
        raise ZeroDivisionError
    until(lambda: not psutil.pid_exists(parked.pid))


def test_a_guest_that_cannot_be_loaded_ends_the_guest_process() -> None:
    parked = Parked()
    with pytest.raises(RequestError), parked.building("coalesced.tools.guests.bench:none"):
        pass
    until(lambda: not psutil.pid_exists(parked.pid))
