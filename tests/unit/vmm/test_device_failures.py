"""Devices that raise, or answer with no number, are reported; the rest runs on."""

from __future__ import annotations

import re

import numpy as np
import pytest

from coalesced.hv.errors import PeerDied
from coalesced.vmm.counters import FAILURES_KEPT
from helpers.vmm_fake import (
    Queued,
    load,
    store,
)
from helpers.vmm_recording import ARRIVED, MEM, QUEUED, Board


def failures_of(board: Board) -> list[str]:
    """The failures that were counted, each with `here` for a line of this file."""
    place = re.compile(re.escape(__file__) + r":\d+: ")
    return [place.sub("here: ", text) for text in board.machine.counters.failures]


def test_a_queued_write_that_raises_is_consumed_told_and_counted() -> None:
    def refuse(offset: int, _value: int) -> None:
        if offset == 1:
            raise ValueError("not this one")

    board = Board(*QUEUED, store(MEM + 1, 7), load(MEM))
    board.mem.on_write = refuse
    board.run()
    assert [entry for entry in board.log if entry[1][0] == "write"] == ARRIVED[1:]
    counters = board.machine.counters
    assert counters.failed_writes == 2
    assert failures_of(board) == [
        "memory: write of 1 bytes 0x11 at 0xa0001 (mem): here: ValueError: not this one",
        "memory: write of 1 bytes 0x7 at 0xa0001 (mem): here: ValueError: not this one",
    ]


def test_a_read_that_raises_reads_as_zero_and_is_told_as_a_read() -> None:
    board = Board(load(MEM + 0x100 - 2, 2))
    board.machine.memory.map(board.mem.region, MEM + 0x1000)
    object.__setattr__(board.mem.region, "read", lambda _o, _s: 1 / 0)
    board.run()
    assert board.accel.completed == [0]
    assert failures_of(board) == [
        "memory: read of 2 bytes at 0xa00fe (mem): here: ZeroDivisionError: division by zero"
    ]


class Cancelled(BaseException):
    """As asyncio has one."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GeneratorExit(), "GeneratorExit"),
        (Cancelled("all"), "Cancelled: all"),
        (SystemExit(3), "SystemExit: 3"),
        (Unspeakable(), "Unspeakable: its text cannot be read: ValueError"),
        (ValueError("two\nlines \x1b[31m"), "ValueError: two lines \\x1b[31m"),
    ],
)
@pytest.mark.parametrize("queued", [2, 20])
def test_whatever_a_device_raises_is_one_line(error: BaseException, said: str, queued: int) -> None:
    board = Board(*(Queued(MEM + at, 1, 9) for at in range(queued)))

    def refuse(offset: int, _value: int) -> None:
        if offset == 1:
            raise error

    board.mem.on_write = refuse
    board.run()
    assert len(board.log) == queued - 1
    assert failures_of(board) == [
        f"memory: write of 1 bytes 0x9 at {MEM + 1:#x} (mem): here: {said}"
    ]


def test_ctrl_c_inside_a_device_is_ctrl_c() -> None:
    board = Board(*QUEUED)

    def interrupted(_offset: int, _value: int) -> None:
        raise KeyboardInterrupt

    board.mem.on_write = interrupted
    with pytest.raises(KeyboardInterrupt):
        board.run()


@pytest.mark.parametrize("answer", [None, 1.5, "1", np.zeros(2, np.uint8), [1]])
def test_a_read_that_gives_no_int_reads_as_zero_and_is_reported(answer: object) -> None:
    board = Board(load(MEM, 4))
    object.__setattr__(board.mem.region, "read", lambda _o, _s: answer)
    board.run()
    assert board.accel.completed == [0]
    assert board.machine.counters.failures == [
        f"memory: read of 4 bytes at 0xa0000 (mem): TypeError: read() gave "
        f"{type(answer).__name__}, expected an int"
    ]


@pytest.mark.parametrize(
    ("answer", "value"),
    [(-1, 0xFFFF), (1 << 70 | 5, 5), (np.uint8(7), 7), (True, 1), (np.bool_(True), 1)],
)
def test_of_a_number_that_is_read_the_low_bytes_count(answer: int, value: int) -> None:
    board = Board(load(MEM, 2))
    object.__setattr__(board.mem.region, "read", lambda _o, _s: answer)
    board.run()
    assert board.accel.completed == [value]
    assert board.machine.counters.failures == []


def test_the_death_of_the_guest_is_no_failure_of_a_device() -> None:
    """A device that moves stops the guest first, and may find it dead."""
    board = Board(Queued(MEM, 1, 1))

    def dead(_offset: int, _value: int) -> None:
        raise PeerDied("the guest process ended")

    board.mem.on_write = dead
    with pytest.raises(PeerDied):
        board.run()
    assert board.machine.counters.failed_writes == 0


def test_the_texts_of_the_first_failures_are_kept_and_all_are_counted() -> None:
    board = Board(*(Queued(MEM, 1, i) for i in range(FAILURES_KEPT + 5)))

    def refuse(_offset: int, value: int) -> None:
        raise OSError(value)

    board.mem.on_write = refuse
    board.run()
    assert board.machine.counters.failed_writes == FAILURES_KEPT + 5
    assert len(board.machine.counters.failures) == FAILURES_KEPT
