"""The interval timer: its modes in time, the ways to read it, its interrupt, the speaker's port."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.device import Timer
from coalesced.devices.pit import FREQUENCY, I8254, SECOND


class Clock:
    """A clock that a test moves, and that makes the calls that are due."""

    def __init__(self) -> None:
        self.time = 0
        self.alarms: list[tuple[int, Alarm]] = []

    def now(self) -> int:
        return self.time

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        alarm = Alarm(call)
        self.alarms.append((due, alarm))
        return alarm

    def due(self) -> list[int]:
        return sorted(due for due, alarm in self.alarms if alarm.call is not None)

    def ticks(self, count: int, start: int = 0) -> None:
        """Move to a tick since a time."""
        self.set(start - (-count * SECOND // FREQUENCY))

    def set(self, time: int) -> None:
        while (due := self.due()) and due[0] <= time:
            self.time = due[0]
            at = next(i for i, (when, alarm) in enumerate(self.alarms) if when == due[0])
            call = self.alarms.pop(at)[1].call
            if call is not None:
                call()
        self.time = time


class Alarm:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Board:
    def __init__(self) -> None:
        self.clock = Clock()
        self.line: list[bool] = []
        self.pit = I8254(self.clock, self._set)
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.pit.legacy_ports:
            self.ports.map(region, base, priority)

    def _set(self, level: bool) -> None:
        if not self.line or self.line[-1] != level:
            self.line.append(level)

    def put(self, *pairs: tuple[int, int]) -> None:
        for port, value in pairs:
            self.ports.write(port, 1, value)

    def get(self, port: int) -> int:
        return self.ports.read(port, 1)

    def load(self, counter: int, mode: int, count: int) -> None:
        """Both bytes."""
        self.put((0x43, counter << 6 | 0x30 | mode << 1))
        self.put((0x40 + counter, count & 0xFF), (0x40 + counter, count >> 8))

    def count(self, counter: int) -> int:
        self.put((0x43, counter << 6))
        return self.get(0x40 + counter) | self.get(0x40 + counter) << 8

    def out(self, counter: int) -> bool:
        self.put((0x43, 0xE0 | 2 << counter))
        return bool(self.get(0x40 + counter) & 0x80)


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        # (ticks since the load of 1000: count, OUT)
        (0, {0: (1000, 0), 999: (1, 0), 1000: (0, 1), 1001: (0xFFFF, 1)}),
        (1, {0: (1000, 1), 999: (1, 1), 1000: (0, 0)}),
        (2, {0: (1000, 0), 999: (1, 0), 1000: (1000, 1), 1001: (999, 0), 2000: (1000, 1)}),
        (3, {0: (1000, 1), 1: (998, 1), 499: (2, 1), 500: (1000, 0), 999: (2, 0), 1000: (1000, 1)}),
        (4, {0: (1000, 0), 999: (1, 0), 1000: (0, 1), 1001: (0xFFFF, 0)}),
        (5, {0: (1000, 0), 1000: (0, 1), 1001: (0xFFFF, 0)}),
        (6, {0: (1000, 0), 999: (1, 0), 1000: (1000, 1), 1001: (999, 1)}),
    ],
)
def test_modes(mode: int, seen: dict[int, tuple[int, int]]) -> None:
    board = Board()
    board.load(1, mode, 1000)
    for ticks, (count, out) in seen.items():
        board.clock.ticks(ticks)
        assert (board.count(1), board.out(1)) == (count, out), ticks


def test_a_count_of_zero_is_65536_and_an_odd_wave_is_longer_high() -> None:
    board = Board()
    board.load(1, 2, 0)
    board.clock.ticks(0x10000 - 1)
    assert board.count(1) == 1
    board.load(2, 3, 5)
    start = board.clock.time
    levels = []
    for ticks in range(10):
        board.clock.ticks(ticks, start)
        levels.append(board.out(2))
    assert levels == [True, True, True, False, False] * 2


def test_ways_to_read() -> None:
    board = Board()
    board.load(0, 2, 0x1234)
    board.put((0x43, 0x00))
    board.clock.ticks(0x34)
    assert [board.get(0x40) for _ in range(4)] == [0x34, 0x12, 0x00, 0x12]
    board.put((0x43, 0x14), (0x40, 0x77))  # low byte only
    assert [board.get(0x40), board.get(0x40)] == [0x77, 0x77]
    board.put((0x43, 0x24), (0x40, 0x77))  # high byte only
    assert [board.get(0x40), board.get(0x40)] == [0x77, 0x77]
    board.put((0x43, 0xC2))  # status and count of counter 0
    assert [board.get(0x40), board.get(0x40)] == [0x24, 0x77]
    assert board.get(0x43) == 0


@pytest.mark.parametrize(("mode", "counts"), [(0, False), (2, True), (1, True), (4, False)])
def test_a_rising_gate_starts_some_modes_anew(mode: int, counts: bool) -> None:
    board = Board()
    board.load(2, mode, 1000)
    board.clock.ticks(100)
    assert board.get(0x61) & 0x01 == 0
    board.put((0x61, 0x03))
    assert board.get(0x61) & 0x03 == 0x03
    assert board.count(2) == (1000 if counts else 900)


def test_the_speakers_port_shows_out_and_a_bit_that_changes() -> None:
    board = Board()
    board.load(2, 0, 10)
    first, second = board.get(0x61), board.get(0x61)
    assert (first ^ second, first & 0x20) == (0x10, 0)
    board.clock.ticks(10)
    assert board.get(0x61) & 0x20


@pytest.mark.parametrize(
    ("mode", "edges"),
    [(0, [False, True]), (2, [False, *[True, False] * 3]), (3, [True, *[False, True] * 3])],
)
def test_the_interrupt_follows_out(mode: int, edges: list[bool]) -> None:
    board = Board()
    board.load(0, mode, 10000)
    board.clock.ticks(30001)
    assert board.line == edges


def test_nothing_is_due_before_the_guest_uses_it() -> None:
    board = Board()
    board.clock.set(10 * SECOND)
    assert board.clock.alarms == []
    assert board.line == []
    board.pit.follow()
    assert board.line[-2:] in ([True, False], [False, True])  # a change that is due is reported
    assert board.clock.due() != []


def test_interrupts_that_come_too_fast_are_joined() -> None:
    board = Board()
    board.load(0, 2, 2)
    due = board.clock.due()
    assert due == [board.clock.time + 100_000]
    board.clock.set(due[0])
    assert 2 < len(board.line) < 20
    assert len(board.clock.due()) == 1


def test_reset_starts_the_waves_and_keeps_the_way_of_access() -> None:
    board = Board()
    board.load(1, 0, 77)
    board.clock.ticks(5)
    board.pit.reset()
    assert board.count(1) == 0
    board.put((0x43, 0xE4))
    assert board.get(0x41) == 0x80 | 0x30 | 0x06


def test_a_running_count_is_no_part_of_the_state() -> None:
    board = Board()
    board.load(0, 2, 500)
    before = board.pit.state()
    board.clock.ticks(123)
    assert board.pit.state() == before
    board.load(0, 2, 501)
    assert board.pit.state() != before
