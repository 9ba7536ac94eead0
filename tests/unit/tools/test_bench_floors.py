"""The floors in C: what they answer, and what they leave behind."""

from __future__ import annotations

import os
import time

import numpy as np
import psutil
import pytest

from coalesced.tools.bench import floors
from coalesced.tools.bench.exits import FLOORS
from helpers.descriptors import descriptors
from helpers.tiers import every, some_heavy

CPU = min(os.sched_getaffinity(0))


def children() -> set[int]:
    """The children of this process, ended ones that nobody waited for among them."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize("publish_every", [1, 64])
def test_a_ring_takes_some_time_per_entry(publish_every: int) -> None:
    assert 0 < floors.ring(5000, 1, publish_every, -1, -1) < 1e7
    assert 0 < floors.ring_alone(5000, 1, publish_every, -1) < 1e6


def test_a_ring_on_a_single_cpu_gets_through() -> None:
    assert floors.ring(5000, 1, 64, CPU, CPU) > 0


@pytest.mark.parametrize("kind", FLOORS)
def test_a_ping_pong_takes_some_time_per_round_trip(kind: str) -> None:
    assert 0 < floors.ping_pong(kind, 200, CPU, CPU) < 1e8
    assert 0 < floors.ping_pong(kind, 200, -1, -1) < 1e8


@pytest.mark.parametrize("kind", FLOORS)
def test_single_round_trips_sum_up_to_all_of_them(kind: str) -> None:
    each = np.zeros(100, np.uint64)
    mean = floors.ping_pong(kind, len(each), CPU, CPU, each)
    assert (each > 0).all()
    assert each.mean() <= mean * 1.001


def test_affinity_is_put_back_and_no_process_or_descriptor_left() -> None:
    affinity, before, others = os.sched_getaffinity(0), descriptors(), children()
    floors.ring(1000, 1, 64, CPU, CPU)
    floors.ring_alone(1000, 1, 64, CPU)
    for kind in FLOORS:
        floors.ping_pong(kind, 10, CPU, CPU)
    assert (os.sched_getaffinity(0), descriptors() - before) == (affinity, set())
    assert children() == others


CHANNELS = ("ring", "eventfd", "pipe", "socketpair", "queue")


@some_heavy(
    "kind, batch", every(CHANNELS, [1, 64]), lambda kind, batch: batch == 1 or kind == "ring"
)
def test_a_channel_takes_some_time_per_entry_and_per_call(kind: str, batch: int) -> None:
    affinity, before, others = os.sched_getaffinity(0), descriptors(), children()
    assert 0 < floors.channel(kind, 500, batch, CPU, CPU) < 1e8
    each = np.zeros(20, np.uint64)
    floors.channel(kind, len(each), batch, -1, -1, each)
    assert (each > 0).all()
    assert (os.sched_getaffinity(0), descriptors() - before) == (affinity, set())
    assert children() == others


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("tape", 1, 1), "got tape"), (("pipe", 0, 1), "1 to 64"), (("pipe", 1, 65), "1 to 64")],
)
def test_a_channel_that_cannot_be(arguments: tuple[str, int, int], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        floors.channel(*arguments, -1, -1)


@pytest.mark.parametrize("arguments", [(0, 1, 64), (10, 0, 64), (10, 4097, 64), (10, 1, 0)])
def test_a_ring_that_cannot_be(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        floors.ring(*arguments, -1, -1)
    with pytest.raises(ValueError, match="above 0"):
        floors.ring_alone(*arguments, -1)


def test_a_ping_pong_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="above 0"):
        floors.ping_pong("pipe", 0, -1, -1)
    with pytest.raises(ValueError, match="got pigeon"):
        floors.ping_pong("pigeon", 10, -1, -1)
    with pytest.raises(ValueError, match="room for 10"):
        floors.ping_pong("pipe", 10, -1, -1, np.zeros(9, np.uint64))


@pytest.mark.parametrize("cpus", [(-2, 0), (0, 1 << 20)])
def test_a_cpu_that_is_no_number(cpus: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="CPUs"):
        floors.ring(10, 1, 64, *cpus)
    with pytest.raises(ValueError, match="CPUs"):
        floors.ping_pong("pipe", 10, *cpus)


def test_a_ring_on_a_cpu_that_is_not_there() -> None:
    with pytest.raises(OSError, match="argument"):
        floors.ring(10, 1, 64, 1023, -1)
    with pytest.raises(RuntimeError, match="second process"):
        floors.ring(10, 1, 64, -1, 1023)
    with pytest.raises(OSError, match="argument"):
        floors.ring_alone(10, 1, 64, 1023)


@pytest.mark.parametrize("kind", FLOORS)
def test_nobody_waits_for_a_side_that_never_ran(kind: str) -> None:
    before, others = descriptors(), children()
    with pytest.raises(OSError, match="argument"):
        floors.ping_pong(kind, 10, 1023, -1)
    with pytest.raises(RuntimeError, match="second process"):
        floors.ping_pong(kind, 10, -1, 1023)
    assert children() == others
    assert descriptors() - before == set()


def test_a_stamper_notes_the_loads_that_have_room_and_reads_as_0() -> None:
    times = np.zeros(3, np.int64)
    read = floors.stamper(times)
    before = time.monotonic_ns()
    assert [read(8, 4) for _ in range(3)] == [0, 0, 0]
    assert times[0] == 2
    assert before <= times[1] <= times[2] <= time.monotonic_ns()
    with pytest.raises(ValueError, match="expected elements of 8 bytes, got 6 bytes"):
        floors.stamper(np.zeros(6, np.uint8))
