"""The clock's interrupt, ISA line 8: periods, alarms and updates raise it, register C lowers it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

SECOND = 1_000_000_000


class Bench:
    def __init__(self, machine: Machine) -> None:
        self.ports = machine.ports
        self.board = Board(machine, 16 << 20)
        self.lines: list[tuple[int, bool]] = []
        self.board.on_irq = lambda irq, level: self.lines.append((irq, level))
        self.board.clock.set(SECOND // 4)

    def put(self, index: int, value: int) -> None:
        self.ports.write(0x70, 1, index)
        self.ports.write(0x71, 1, value)

    def flags(self) -> int:
        self.ports.write(0x70, 1, 0x0C)
        return self.ports.read(0x71, 1)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Machine(DirectAccelerator()) as machine:
        yield Bench(machine)


@pytest.mark.parametrize(("enabled", "wait", "flag"), [(0x40, 2, 0x40), (0x10, 1000, 0x10)])
def test_a_flag_that_is_enabled_raises_it_until_register_c_is_read(
    bench: Bench, enabled: int, wait: int, flag: int
) -> None:
    bench.flags()
    bench.put(0x0B, 0x02 | enabled)
    assert bench.lines == []
    bench.board.clock.step(wait * SECOND // 1000)
    assert bench.lines == [(8, True)]
    assert bench.flags() & (0x80 | flag) == 0x80 | flag
    assert bench.lines == [(8, True), (8, False)]
    bench.board.clock.step(wait * SECOND // 1000)
    assert bench.lines[2:] == [(8, True)]


def test_an_alarm_raises_it_in_its_second(bench: Bench) -> None:
    for index, value in ((0x0B, 0x82), (4, 0x10), (2, 0), (0, 0), (5, 0x10), (3, 0), (1, 0x05)):
        bench.put(index, value)
    bench.put(0x0B, 0x22)
    bench.board.clock.step(4 * SECOND)
    assert bench.lines == []
    bench.board.clock.step(SECOND)
    assert bench.lines == [(8, True)]
    assert bench.flags() & 0xA0 == 0xA0


def test_flags_that_are_not_enabled_wait_for_no_time(bench: Bench) -> None:
    assert bench.board.clock.deadline() is None
    bench.put(0x0B, 0x12)
    assert bench.board.clock.deadline() is not None
    bench.put(0x0B, 0x02)
    assert bench.board.clock.deadline() is None
    bench.board.clock.step(3 * SECOND)
    assert bench.flags() & 0x90 == 0x10
    assert bench.lines == []


def test_a_reset_lowers_it(bench: Bench) -> None:
    bench.put(0x0B, 0x42)
    bench.board.clock.step(SECOND // 100)
    assert bench.lines == [(8, True)]
    bench.board.reset()
    assert bench.lines == [(8, True), (8, False)]
    assert bench.board.clock.deadline() is None
