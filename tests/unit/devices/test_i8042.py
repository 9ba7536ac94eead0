"""The keyboard controller, its keyboard and mouse, and port 0x92."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.i8042 import I8042
from coalesced.devices.ps2 import SET_1, in_set_2, translated


class Board:
    def __init__(self) -> None:
        self.lines: dict[int, bool] = {}
        self.a20: list[bool] = []
        self.resets = 0
        self.chip = I8042(self._set_irq, self.a20.append, self._reset)
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.chip.legacy_ports:
            self.ports.map(region, base, priority)

    def _set_irq(self, line: int, level: bool) -> None:
        self.lines[line] = level

    def _reset(self) -> None:
        self.resets += 1

    def put(self, port: int, *values: int) -> None:
        for value in values:
            self.ports.write(port, 1, value)

    def command(self, command: int, *values: int) -> None:
        self.put(0x64, command)
        self.put(0x60, *values)

    def mouse(self, *values: int) -> None:
        for value in values:
            self.command(0xD4, value)

    def status(self) -> int:
        return self.ports.read(0x64, 1)

    def read(self) -> list[int]:
        """All that waits."""
        found = []
        while self.status() & 0x01:
            found.append(self.ports.read(0x60, 1))
        return found


@pytest.mark.parametrize(
    ("command", "reply"),
    [(0xAA, [0x55]), (0xAB, [0]), (0xA9, [0]), (0xC0, [0x80]), (0xD0, [0xCF]), (0x20, [0x03])],
)
def test_replies_of_the_controller(command: int, reply: list[int]) -> None:
    board = Board()
    assert board.status() == 0x18
    board.command(command)
    assert board.lines[1] is True
    assert board.read() == reply
    assert board.lines[1] is False
    assert board.status() == (0x1C if command == 0xAA else 0x18)


def test_the_mode_disables_devices_and_interrupts() -> None:
    board = Board()
    board.command(0x60, 0x30)
    board.chip.keyboard.send([0x1E])
    assert board.status() & 0x01 == 0
    board.command(0xAE)
    assert board.lines[1] is False
    assert board.read() == [0x1C]  # untranslated
    board.command(0x60, 0x43)
    assert board.lines[1] is False
    board.chip.keyboard.send([0x1E, 0x9E])
    assert board.lines[1] is True
    assert board.read() == [0x1E, 0x9E]
    board.command(0x20)
    assert board.read() == [0x43]
    board.command(0xAD)
    board.command(0xA7)
    board.command(0x20)
    assert board.read() == [0x73]


def test_what_is_written_for_the_buffers_looks_like_a_devices() -> None:
    board = Board()
    board.command(0xD2, 0x12)
    assert (board.status() & 0x21, board.lines[1], board.lines[12]) == (0x01, True, False)
    assert board.read() == [0x12]
    board.command(0xD3, 0x34)
    assert (board.status() & 0x21, board.lines[1], board.lines[12]) == (0x21, False, True)
    assert board.read() == [0x34]


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        ([0xFF], [0xFA, 0xAA]),
        ([0xF2], [0xFA, 0xAB, 0x83]),
        ([0xEE], [0xEE]),
        ([0xED, 0x02], [0xFA, 0xFA]),
        ([0xF3, 0x20], [0xFA, 0xFA]),
        ([0xF0, 0x00], [0xFA, 0xFA, 0x02]),
        ([0xF0, 0x05], [0xFA, 0xFE]),
        ([0x99], [0xFE]),
    ],
)
def test_replies_of_the_keyboard(commands: list[int], replies: list[int]) -> None:
    board = Board()
    got = []
    for command in commands:
        board.put(0x60, command)
        got += board.read()
    assert got == replies


def test_a_reply_goes_before_keys_that_wait_and_the_next_command_drops_it() -> None:
    board = Board()
    board.chip.keyboard.send([0x1E, 0x9E])
    board.put(0x60, 0xF2)  # three bytes
    assert board.ports.read(0x60, 1) == 0xFA
    board.put(0x60, 0xEE)
    assert board.read() == [0xEE, 0x1C, 0xF0, 0x1C]


def test_keys_are_lost_when_disabled_and_when_the_queue_is_full() -> None:
    board = Board()
    board.command(0x60, 0x43)
    board.chip.keyboard.send([0x02] * 20)
    assert board.read() == [0x02] * 16
    board.put(0x60, 0xF5)
    assert board.read() == [0xFA]
    board.chip.keyboard.send([0x02])
    assert board.read() == []
    board.put(0x60, 0xF4)
    board.chip.keyboard.send([0xE0, 0x48, 0xE0, 0xC8])
    assert board.read() == [0xFA, 0xE0, 0x48, 0xE0, 0xC8]


def test_a_keyboard_of_set_1_sends_it() -> None:
    board = Board()
    board.put(0x60, 0xF0)
    board.put(0x60, 0x01)
    board.read()
    board.chip.keyboard.send([0x1E, 0x9E])
    assert board.read() == [0x1E, 0x9E]


def test_the_sets_translate_into_each_other() -> None:
    assert sorted(SET_1)[:2] == [0x01, 0x02]
    assert len(set(SET_1)) == len(SET_1)
    for code in range(0x01, 0x59):
        assert [translated(c) for c in in_set_2([code])] == [code]
    assert in_set_2([0xE0, 0xC8, 0x41]) == [0xE0, 0xF0, 0x75, 0x83]


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        ([0xFF], [0xFA, 0xAA, 0x00]),
        ([0xF4, 0xE7, 0xE9], [0xFA, 0xFA, 0xFA, 0x30, 0, 0]),
        ([0xF6, 0xE8, 3, 0xE9], [0xFA, 0xFA, 0xFA, 0xFA, 0x00, 3, 100]),
        ([0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2], [*[0xFA] * 7, 3]),
        ([0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2], [*[0xFA] * 7, 4]),
        ([0xF3, 200, 0xF3, 80, 0xF2], [*[0xFA] * 5, 0]),
        ([0xEB], [0xFA, 0x08, 0, 0]),
        ([0xEE, 0x55, 0xEC, 0xF2], [0xFA, 0x55, 0xFA, 0xFA, 0]),
        ([0x00], []),
    ],
)
def test_replies_of_the_mouse(commands: list[int], replies: list[int]) -> None:
    board = Board()
    got = []
    for command in commands:
        board.mouse(command)
        assert not board.status() & 0x01 or board.lines[12]
        got += board.read()
    assert got == replies


def test_a20_is_what_was_written_last() -> None:
    board = Board()
    board.command(0xDD)
    board.command(0xDF)
    board.command(0xD1, 0x01)
    board.put(0x92, 0x02)
    assert board.a20 == [False, True, False, True]
    assert board.ports.read(0x92, 1) == 0x02
    assert board.resets == 0


def test_bits_of_a_full_buffer_that_were_written_give_way_to_those_of_the_next_byte() -> None:
    board = Board()
    board.command(0xD1, 0x23)
    board.command(0xD0)
    assert board.read() == [0x23]
    board.command(0xD1, 0x23)
    board.command(0xD2, 0x55)
    board.command(0xD0)
    assert board.read() == [0x13]
    board.command(0xD0)
    assert board.read() == [0x03]


def test_ways_to_reset_the_machine() -> None:
    board = Board()
    board.command(0xFE)
    board.command(0xF0)
    board.command(0xFF)
    board.command(0xD1, 0x02)
    assert board.resets == 3
    board.put(0x92, 0x01)
    board.put(0x92, 0x03)  # no rise
    assert board.resets == 4
    board.chip.reset()
    assert board.ports.read(0x92, 1) == 0x02
    assert board.status() == 0x18


def test_the_state_has_all_that_was_set() -> None:
    board = Board()
    seen = [board.chip.state()]
    for port, value in ((0x64, 0xD1), (0x60, 0xDF), (0x92, 2), (0x60, 0xEE), (0x64, 0x20)):
        board.put(port, value)
        assert board.chip.state() not in seen
        seen.append(board.chip.state())
    board.chip.mouse.write(0xE7)
    assert board.chip.state() not in seen
