"""The ranges that are judged: windows and registers, and blocks where these are too many."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from coalesced.tools.advise.ranges import MOST, Range, ranges
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.advise.zones import ZONES_MOST, Written
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
        Range(Zone(False, BAR, 0x1000), 2),
        Range(Zone(False, BAR + 0x1000, 4)),
        Range(Zone(True, 0x70, 1)),
    ]


def test_a_window_that_is_longer_than_a_block_is_not_joined() -> None:
    window = range(0xFD000000, 0xFD002000, 4)
    found = ranges(written(*window, BAR, BAR + 8, BAR + 16), most=2)
    assert found == [Range(Zone(False, 0xFD000000, 0x2000)), Range(Zone(False, BAR, 20), 3)]


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
    for number in range(ZONES_MOST + 1):
        tape.store(BAR + 0x100 * number, 0, exits=False)
        tape.store(BAR + 0x100 * number + 0x80, 0)
    advice = tape.advice(tmp_path)
    assert len(advice.zones_in_force) == 1
    assert advice.agreement is not None
    assert advice.agreement.writes == 2 * ZONES_MOST + 1
