"""Timers and readable descriptors of the run loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from vmm.loop import Loop


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock; a test moves it by hand."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_timers_are_called_when_due_earliest_first(loop: Loop, now: list[float]) -> None:
    called: list[str] = []
    loop.call_at(103, lambda: called.append("late"))
    loop.call_at(101, lambda: called.append("early"))
    loop.call_at(101, lambda: called.append("early, second"))
    assert loop.timeout() == 1
    loop.run_timers()
    assert called == []
    now[0] = 102
    assert loop.timeout() == 0
    loop.run_timers()
    assert called == ["early", "early, second"]
    assert loop.timeout() == 1


def test_without_timers_there_is_no_timeout(loop: Loop) -> None:
    assert loop.timeout() is None
    loop.run_timers()


def test_a_cancelled_timer_is_neither_called_nor_waited_for(loop: Loop, now: list[float]) -> None:
    loop.call_at(101, lambda: pytest.fail("cancelled")).cancel()
    timer = loop.call_at(105, lambda: pytest.fail("cancelled, too"))
    assert loop.timeout() == 5
    timer.cancel()
    assert loop.timeout() is None
    now[0] = 200
    loop.run_timers()


def test_a_timer_may_set_and_cancel_others(loop: Loop, now: list[float]) -> None:
    called: list[str] = []
    second = loop.call_at(102, lambda: called.append("second"))

    def first() -> None:
        second.cancel()
        loop.call_at(101, lambda: called.append("third"))

    loop.call_at(101, first)
    now[0] = 110
    loop.run_timers()
    assert called == ["third"]


def test_a_periodic_call_does_not_make_up_for_late_ones(loop: Loop, now: list[float]) -> None:
    called: list[float] = []
    loop.call_every(10, lambda: called.append(now[0]))
    for moment in (109.0, 110.0, 145.0, 150.0, 155.0):
        now[0] = moment
        loop.run_timers()
    assert called == [110, 145, 155]


def test_a_reader_is_called_when_its_descriptor_is_readable(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    got: list[bytes] = []
    assert not loop.has_readers
    loop.add_reader(pipe[0], lambda: got.append(os.read(pipe[0], 100)))
    assert loop.has_readers
    loop.select((), 0)
    assert got == []
    os.write(pipe[1], b"frame")
    loop.select((), 10)
    assert got == [b"frame"]
    loop.remove_reader(pipe[0])
    assert not loop.has_readers
    os.write(pipe[1], b"unseen")
    loop.select((), 0)
    assert got == [b"frame"]


def test_another_descriptor_ends_a_wait_and_is_not_watched_after_it(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"exit")
    loop.select((pipe[0],), 10)  # returns, or the test takes ten seconds
    loop.select((pipe[0],), 10)  # registered anew each time
    loop.select((), 0)
    assert os.read(pipe[0], 10) == b"exit"


def test_a_reader_may_take_itself_and_others_away(loop: Loop, pipe: tuple[int, int]) -> None:
    other = os.pipe()
    called: list[str] = []

    def quit_all(name: str) -> None:
        called.append(name)
        loop.remove_reader(pipe[0])
        loop.remove_reader(other[0])

    loop.add_reader(pipe[0], lambda: quit_all("one"))
    loop.add_reader(other[0], lambda: quit_all("two"))
    os.write(pipe[1], b"x")
    os.write(other[1], b"x")
    loop.select((), 10)
    assert len(called) == 1
    for fd in other:
        os.close(fd)


def test_taking_an_unknown_reader_away_is_an_error(loop: Loop) -> None:
    with pytest.raises(KeyError):
        loop.remove_reader(99)


def test_closing_twice_is_fine() -> None:
    loop = Loop()
    loop.select((), 0)
    loop.close()
    loop.close()
