"""Timers and readable descriptors of the run loop."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from coalesced.vmm.loop import Loop


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
    assert not loop.watching
    loop.add_reader(pipe[0], lambda: got.append(os.read(pipe[0], 100)))
    assert loop.watching
    loop.serve()
    assert got == []
    os.write(pipe[1], b"frame")
    loop.wait(10)
    assert got == [b"frame"]
    loop.remove_reader(pipe[0])
    assert not loop.watching
    os.write(pipe[1], b"unseen")
    loop.serve()
    assert got == [b"frame"]


def test_the_loops_own_descriptor_tells_when_there_is_something_to_serve(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    poll = select.poll()
    poll.register(loop.fileno(), select.POLLIN)
    loop.add_reader(pipe[0], lambda: None)
    assert poll.poll(0) == []
    os.write(pipe[1], b"x")
    assert poll.poll(0) == [(loop.fileno(), select.POLLIN)]
    loop.remove_reader(pipe[0])
    assert poll.poll(0) == []


def test_a_descriptor_may_have_a_reader_and_a_writer(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    called: list[str] = []
    with ours, theirs:
        loop.add_reader(ours.fileno(), lambda: called.append("read"))
        loop.add_writer(ours.fileno(), lambda: called.append("write"))
        loop.serve()
        assert called == ["write"]
        theirs.send(b"x")
        loop.serve()
        assert called == ["write", "read", "write"]
        loop.remove_writer(ours.fileno())
        loop.serve()
        assert called == ["write", "read", "write", "read"]
        loop.add_writer(ours.fileno(), lambda: called.append("again"))
        loop.remove_reader(ours.fileno())
        loop.serve()
        assert called[4:] == ["again"]
        assert loop.watching
        loop.remove_writer(ours.fileno())
        assert not loop.watching


def test_the_end_of_the_other_side_is_told_to_whoever_watches(loop: Loop) -> None:
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        ours, theirs = socket.socketpair()
        called: list[str] = []
        add(ours.fileno(), lambda called=called: called.append("end"))  # type: ignore[misc]
        theirs.close()
        loop.serve()
        assert called == ["end"]
        remove(ours.fileno())
        ours.close()


def test_a_wait_is_no_longer_than_asked_for(loop: Loop, pipe: tuple[int, int]) -> None:
    """Not rounded up to epoll's milliseconds: a device's timers are shorter."""
    loop.add_reader(pipe[0], lambda: None)

    def took() -> float:
        before = time.perf_counter()
        loop.wait(0.0001)
        return time.perf_counter() - before

    assert any(took() < 0.001 for _ in range(1000))  # a busy machine may be late


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
    loop.wait(10)
    assert len(called) == 1
    for fd in other:
        os.close(fd)


def test_taking_an_unknown_reader_away_is_an_error(loop: Loop) -> None:
    with pytest.raises(KeyError):
        loop.remove_reader(99)


def test_closing_twice_is_fine() -> None:
    loop = Loop()
    loop.serve()
    loop.close()
    loop.close()


def test_a_call_that_is_made_every_so_often_is_made_again_after_it_raised() -> None:
    loop = Loop()
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    loop.call_every(0.001, interrupted)
    for number in (1, 2, 3):
        assert loop.timeout() is not None
        loop.wait(loop.timeout())
        with pytest.raises(KeyboardInterrupt):
            loop.run_timers()
        assert calls == number
    loop.close()
