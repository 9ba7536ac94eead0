"""The interrupt controllers: priorities, ends of interrupts, cascade, edges and levels."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.pic import I8259Pair

EOI = 0x20


class Board:
    """The controllers at their ports, with vectors 8 and 0x70 as a PC's firmware sets them."""

    def __init__(self, icw4: int = 0x01) -> None:
        self.pic = I8259Pair()
        self.levels: list[bool] = []
        self.pic.on_intr = self.levels.append
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.pic.legacy_ports:
            self.ports.map(region, base, priority)
        for port, base, cascade in ((0x20, 8, 4), (0xA0, 0x70, 2)):
            self.put((port, 0x11), (port + 1, base), (port + 1, cascade), (port + 1, icw4))

    def put(self, *pairs: tuple[int, int]) -> None:
        for port, value in pairs:
            self.ports.write(port, 1, value)

    def get(self, port: int) -> int:
        return self.ports.read(port, 1)

    def pulse(self, *lines: int) -> None:
        for line in lines:
            self.pic.set_irq(line, True)
            self.pic.set_irq(line, False)

    def registers(self, port: int) -> tuple[int, int]:
        """IRR and ISR."""
        self.put((port, 0x0A))
        irr = self.get(port)
        self.put((port, 0x0B))
        return irr, self.get(port)


@pytest.mark.parametrize(
    ("line", "vector"), [(0, 8), (1, 9), (7, 15), (8, 0x70), (12, 0x74), (15, 0x77)]
)
def test_an_interrupt_raises_intr_until_it_is_acknowledged(line: int, vector: int) -> None:
    board = Board()
    board.pulse(line)
    assert board.levels == [True]
    assert board.pic.acknowledge() == vector
    assert board.levels == [True, False]


def test_the_highest_priority_goes_first_and_others_wait_for_its_end() -> None:
    board = Board()
    board.pulse(5, 12, 1)
    assert board.pic.acknowledge() == 9
    assert board.levels[-1] is False
    board.put((0x20, EOI))
    assert board.pic.acknowledge() == 0x74
    board.put((0xA0, EOI))
    assert board.levels[-1] is False  # the cascade is still in service
    board.put((0x20, EOI))
    assert board.pic.acknowledge() == 13


def test_a_mask_holds_an_interrupt_back_but_not_its_request() -> None:
    board = Board()
    board.put((0x21, 0x10))
    board.pulse(4)
    assert board.levels == []
    assert board.registers(0x20) == (0x10, 0)
    assert board.get(0x21) == 0x10
    board.put((0x21, 0))
    assert board.levels == [True]


def test_an_interrupt_that_is_gone_is_number_7() -> None:
    board = Board()
    assert board.pic.acknowledge() == 15
    board.put((0x4D1, 0x02))
    board.pic.set_irq(9, True)
    board.pic.set_irq(9, False)
    assert board.levels == [True]  # the first controller keeps the edge
    assert board.pic.acknowledge() == 0x77
    assert board.registers(0xA0)[1] == 0  # nothing to end there


def test_a_level_asks_again_while_it_is_raised_and_an_edge_does_not() -> None:
    board = Board()
    board.put((0x4D0, 0xFF), (0x4D1, 0xFF))
    assert (board.get(0x4D0), board.get(0x4D1)) == (0xF8, 0xDE)
    for line, again in ((1, False), (11, True)):
        board.pic.set_irq(line, True)
        board.pic.acknowledge()
        board.put((0xA0, EOI), (0x20, EOI))
        assert board.levels[-1] is again
        board.pic.set_irq(line, False)


@pytest.mark.parametrize(
    ("command", "isr", "next_"),
    [
        (0x20, 0x20, 0x01),  # end of the highest
        (0x65, 0x08, 0x01),  # end of 5: 3 is still served, and 0 is above it
        (0xA0, 0x20, 0x10),  # and 3 is now the lowest
        (0xE5, 0x08, 0x40),  # 5 the lowest: 6 is the highest
        (0xC3, 0x28, 0x10),
        (0x40, 0x28, 0x01),
    ],
)
def test_ends_and_rotations(command: int, isr: int, next_: int) -> None:
    board = Board()
    board.pulse(5)
    board.pic.acknowledge()
    board.pulse(3)
    board.pic.acknowledge()
    board.put((0x20, command))
    assert board.registers(0x20)[1] == isr
    for line in (0, 1, 4, 6):
        board.pulse(line)
    board.put((0x20, 0x0C))
    polled = board.get(0x20)
    assert polled & 0x80
    assert 1 << (polled & 7) == next_


def test_automatic_ends_leave_nothing_in_service() -> None:
    board = Board(icw4=0x03)
    board.pulse(3, 3)
    assert board.pic.acknowledge() == 11
    assert board.registers(0x20) == (0, 0)
    board.put((0x20, 0x80))  # and rotate
    board.pulse(3)
    board.pic.acknowledge()
    board.pulse(3, 4)
    assert board.pic.acknowledge() == 12


def test_special_mask_lets_lower_priorities_in() -> None:
    board = Board()
    board.pulse(1)
    board.pic.acknowledge()
    board.pulse(6)
    assert board.levels == [True, False]
    board.put((0x21, 0x02), (0x20, 0x68))
    assert board.levels == [True, False]  # until something is set anew
    board.put((0x21, 0x02))
    assert board.pic.acknowledge() == 14


def test_special_nesting_lets_the_cascade_interrupt_itself() -> None:
    board = Board(icw4=0x11)
    board.pulse(12)
    assert board.pic.acknowledge() == 0x74
    board.pulse(9)
    assert board.pic.acknowledge() == 0x71


def test_a_poll_acknowledges_and_is_over_after_one_read() -> None:
    board = Board()
    board.put((0x20, 0x0C))
    assert board.get(0x20) == 0
    board.pulse(6)
    board.put((0x20, 0x0C))
    assert board.get(0x21) == 0x86
    assert board.registers(0x20) == (0, 0x40)


def test_initialisation_clears_requests_of_edges_and_takes_the_words_that_it_asks_for() -> None:
    board = Board()
    board.pulse(1)
    board.put((0x20, 0x10), (0x21, 0x40), (0x21, 0x04), (0x21, 0x55))
    assert board.registers(0x20) == (0, 0)
    assert board.get(0x21) == 0x55  # without ICW4
    board.put((0x20, 0x12), (0x21, 0x47), (0x21, 0x66))
    assert board.get(0x21) == 0x66  # single: without ICW3
    board.put((0x21, 0))
    board.pulse(0)
    assert board.pic.acknowledge() == 0x40


def test_wide_accesses_are_those_of_both_ports() -> None:
    board = Board()
    board.ports.write(0x20, 2, 0x5A20)
    assert board.ports.read(0x20, 2) == 0x5A00


def test_the_requests_of_timer_and_clock_are_no_part_of_the_state() -> None:
    board = Board()
    before = board.pic.state()
    board.pulse(0, 8)
    assert board.pic.state() == before
    board.pulse(4)
    assert board.pic.state() != before
    board.pic.reset()
    assert board.registers(0x20) == board.registers(0xA0) == (0, 0)
    assert board.levels[-1] is False
