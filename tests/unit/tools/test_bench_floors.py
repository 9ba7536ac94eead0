"""The floors in C: what they answer, and what they leave behind."""

from __future__ import annotations

import os

import pytest

from tools.bench import floors

CPU = min(os.sched_getaffinity(0))


@pytest.mark.parametrize("publish_every", [1, 64])
def test_a_ring_takes_some_time_per_entry(publish_every: int) -> None:
    assert 0 < floors.ring(5000, 1, publish_every, -1, -1) < 1e7


def test_a_ring_on_a_single_cpu_gets_through() -> None:
    assert floors.ring(5000, 1, 64, CPU, CPU) > 0


def test_a_ping_pong_takes_some_time_per_round_trip() -> None:
    assert 0 < floors.pipe_ping_pong(200, CPU, CPU) < 1e8


def test_affinity_is_put_back_and_no_process_left() -> None:
    before = os.sched_getaffinity(0)
    floors.ring(1000, 1, 64, CPU, CPU)
    floors.pipe_ping_pong(10, CPU, CPU)
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    "arguments",
    [(0, 1, 64, -1, -1), (10, 0, 64, -1, -1), (10, 4097, 64, -1, -1), (10, 1, 0, -1, -1)],
)
def test_a_ring_that_cannot_be(arguments: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        floors.ring(*arguments)


def test_no_round_trips() -> None:
    with pytest.raises(ValueError, match="above 0"):
        floors.pipe_ping_pong(0, -1, -1)


@pytest.mark.parametrize("cpus", [(-2, 0), (0, 1 << 20)])
def test_a_cpu_that_is_no_number(cpus: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="CPUs"):
        floors.ring(10, 1, 64, *cpus)
    with pytest.raises(ValueError, match="CPUs"):
        floors.pipe_ping_pong(10, *cpus)


def test_a_cpu_that_is_not_there() -> None:
    with pytest.raises(OSError, match="argument"):
        floors.ring(10, 1, 64, 1023, -1)
    with pytest.raises(RuntimeError, match="second process"):
        floors.ring(10, 1, 64, -1, 1023)
    with pytest.raises(OSError, match="argument"):
        floors.pipe_ping_pong(10, 1023, -1)
    with pytest.raises(RuntimeError, match="second process"):
        floors.pipe_ping_pong(10, -1, 1023)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
