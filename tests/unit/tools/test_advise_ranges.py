"""The ranges that are judged: windows and registers, and blocks where these are too many."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coalesced.hv.abi import NR_IOBUS_DEVS
from coalesced.tools.advise.ranges import MOST, ODD, Range, ranges, without_odd
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.advise.zones import Written
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape

BAR = 0xFEB00000


def written(*addresses: int, ports: tuple[int, ...] = ()) -> Written:
    """Each by dwords, ports by bytes."""
    count = len(addresses) + len(ports)
    return Written(
        np.array([*sorted(addresses), *sorted(ports)], np.uint64),
        np.array([False] * len(addresses) + [True] * len(ports)),
        np.array([4] * len(addresses) + [1] * len(ports), np.uint64),
        np.zeros(count, np.uint64),
    )


def test_registers_are_judged_alone_and_64_neighbours_as_memory() -> None:
    window = range(0xFD000000, 0xFD000000 + 64 * 4, 4)
    found = ranges(written(BAR, BAR + 4, *window, ports=tuple(range(0x300, 0x380))))
    memory = [Zone(False, 0xFD000000, 256), Zone(False, BAR, 4), Zone(False, BAR + 4, 4)]
    assert [each.zone for each in found[:3]] == memory
    assert [each.zone for each in found[3:]] == [Zone(True, n, 1) for n in range(0x300, 0x380)]
    assert not any(each.joined for each in found)


def test_more_than_the_most_are_joined_by_pages() -> None:
    found = ranges(written(BAR, BAR + 0xFFC, BAR + 0x1000, ports=(0x70,)), most=3)
    assert found == [
        Range(Zone(False, BAR, 0x1000), is_window=True, joined=2),
        Range(Zone(False, BAR + 0x1000, 4)),
        Range(Zone(True, 0x70, 1)),
    ]


def test_a_window_that_is_longer_than_a_block_is_not_joined() -> None:
    window = range(0xFD000000, 0xFD002000, 4)
    found = ranges(written(*window, BAR, BAR + 8, BAR + 16), most=2)
    assert found == [
        Range(Zone(False, 0xFD000000, 0x2000), is_window=True),
        Range(Zone(False, BAR, 20), joined=3),
    ]


@pytest.mark.parametrize("most", [3, 10, 100])
def test_blocks_are_few_apart_and_hold_every_address(most: int) -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    addresses = {draw.randrange(2**62) * 4 for _ in range(1000)}
    found = ranges(written(*addresses, ports=(0x70,)), most)
    assert 1 < len(found) <= most, seed
    assert all(a.zone.end <= b.zone.address for a, b in pairwise(found[:-1]))
    held = [sum(each.zone.holds(Zone(False, a, 4)) for each in found) for a in addresses]
    assert held == [1] * len(addresses), seed
    assert sum(each.joined or 1 for each in found) == len(addresses) + 1, seed


def odd(*rows: tuple[int, ...]) -> NDArray[np.void]:
    return np.array(list(rows), ODD)


def test_a_doorbell_and_a_register_that_reads_otherwise_are_cut_out_of_a_window() -> None:
    window = Range(Zone(False, BAR, 0x100), is_window=True)
    found = without_odd(
        [window],
        odd(
            (BAR + 0x80, 4, 9, 5, 7, 0, 0, 0),  # late after most writes
            (BAR + 0x10, 4, 9, 4, 7, 0, 0, 0),  # after few
            (BAR + 0x20, 4, 9, 9, 7, 2, 0, 0),  # what is read was written: memory
            (BAR, 4, 9, 0, 0, 7, 4, 8),  # most reads give another value
            (BAR + 0x30, 4, 9, 0, 0, 8, 4, 8),  # half of them
        ),
    )
    assert found == [
        Range(Zone(False, BAR, 4)),
        Range(Zone(False, BAR + 4, 0x7C), is_window=True),
        Range(Zone(False, BAR + 0x80, 4)),
        Range(Zone(False, BAR + 0x84, 0x7C), is_window=True),
    ]


def test_a_window_of_odd_registers_is_judged_as_one_range() -> None:
    rows = [(BAR + 4 * n, 4, 9, 9, 7, 0, 0, 0) for n in range(257)]
    window = Range(Zone(False, BAR, 0x1000), is_window=True)
    assert without_odd([window], odd(*rows)) == [replace(window, joined=257)]


def picture_then_doorbell(tape: Tape, number: int) -> None:
    for at in range(0, 0x400, 4):
        tape.store(BAR + at, at * number)
    tape.store(BAR + 0x410, 2)
    tape.idle(5_000)


def picture_then_command(tape: Tape, number: int) -> None:
    """The command reads as 0 when it is done."""
    for at in range(0, 0x400, 4):
        tape.store(BAR + at, at * number)
    for at in range(0, 0x400, 4):
        tape.load(BAR + at, at * number)
    tape.store(BAR + 0x410, 2)
    tape.load(BAR + 0x410, 0)


@pytest.mark.parametrize("draw", [picture_then_doorbell, picture_then_command])
def test_a_doorbell_behind_a_picture_is_left_and_the_picture_advised(
    tmp_path: Path, draw: Callable[[Tape, int], None]
) -> None:
    tape = Tape()
    for number in range(9):
        draw(tape, number)
    advice = tape.advice(tmp_path)
    assert advice.advised == [Zone(False, BAR, 0x410)]
    bell = next(each for each in advice.ranges if each.zone == Zone(False, BAR + 0x410, 4))
    assert bell.verdict is Verdict.LEAVE


def test_too_many_ranges_are_unproven_together(tmp_path: Path) -> None:
    """Each would be an index or memory, were it alone."""
    tape = Tape()
    for number in range(MOST + 1):
        tape.store(BAR + 64 * number, number)
        tape.load(BAR + 64 * number, number)
    advice = tape.advice(tmp_path)
    assert {each.verdict for each in advice.ranges} == {Verdict.UNPROVEN}
    assert sum(each.writes for each in advice.ranges) == MOST + 1
    assert advice.ranges[0].reason == "64 ranges: the recording writes too many to judge each"
    assert (advice.ranges[0].line, advice.advised) == (1, [])


def test_no_more_zones_are_in_force_than_a_kernel_has_room_for(tmp_path: Path) -> None:
    tape = Tape()
    for number in range(NR_IOBUS_DEVS + 1):
        tape.store(BAR + 0x100 * number, 0, exits=False)
        tape.store(BAR + 0x100 * number + 0x80, 0)
    advice = tape.advice(tmp_path)
    assert len(advice.zones_in_force) == 1
    assert advice.agreement is not None
    assert advice.agreement.writes == 2 * NR_IOBUS_DEVS + 1
