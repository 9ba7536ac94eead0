"""A process that hangs, and one that only waits for a CPU."""

from __future__ import annotations

import os

import pytest

from coalesced.tools.rings.patience import HANG, Patience, state_of


class World:
    """A clock, and a process with its state and CPU time."""

    def __init__(self) -> None:
        self.now, self.state, self.used = 100.0, "R", 0.0

    def patience(self) -> Patience:
        return Patience(lambda: [1], lambda: self.now, lambda pid: (pid, self.state, self.used))


@pytest.fixture
def world() -> World:
    return World()


def test_a_process_that_sleeps_for_ever_hangs(world: World) -> None:
    waiting = world.patience()
    world.now += HANG - 0.1
    assert not waiting.over()
    world.now, world.state = world.now + 0.2, "S"
    assert waiting.over()


def test_a_process_without_a_cpu_is_waited_for(world: World) -> None:
    waiting = world.patience()
    for _ in range(5):
        world.now += HANG + 0.1
        assert not waiting.over()
    world.now, world.used = world.now + HANG + 0.1, 2.0
    assert waiting.over()


def test_a_move_begins_the_time_anew(world: World) -> None:
    world.state = "S"
    waiting = world.patience()
    for moved in range(5):
        world.now += HANG + 0.1
        assert not waiting.over(moved)
    world.now += HANG + 0.1
    assert waiting.over(4)


def test_the_state_of_a_process_is_that_of_the_kernel() -> None:
    pid, state, used = state_of(os.getpid())
    assert (pid, state) == (os.getpid(), "R")
    assert 0 < used < sum(os.times()[:2]) + 1e-6  # floats: the same ticks, added in another order
    assert state_of(0)[1] == "X"
