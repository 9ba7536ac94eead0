"""Zones that a user adds to those of the devices, or takes away, without editing a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.hv.client import Range
from coalesced.vmm.machine import Machine
from coalesced.vmm.zone import Choice, Zone
from helpers.vmm_fake import FakeAccelerator, Recorder

MEM, PORT = 0xA0000, 0x100
DECLARED: list[Range] = [(MEM, 0x80), (MEM + 0x100, 0x10)]


def zone(address: int, size: int, *, pio: bool = False) -> Zone:
    return Zone(pio, address, size)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), DECLARED),
        (Choice(declared=False), []),
        (Choice(False, (zone(MEM + 8, 4),)), [(MEM + 8, 4)]),
        (Choice(added=(zone(0x10, 4),)), [(0x10, 4), *DECLARED]),
        (Choice(added=(zone(MEM + 0x70, 0x20),)), [(MEM, 0x90), DECLARED[1]]),
        (Choice(added=(zone(MEM + 0x80, 0x80),)), [(MEM, 0x80), (MEM + 0x80, 0x80), DECLARED[1]]),
        (Choice(added=(zone(MEM, 0x200),)), [(MEM, 0x200)]),
        (Choice(removed=(zone(MEM, 0x80),)), [DECLARED[1]]),
        (Choice(removed=(zone(MEM + 4, 4),)), [(MEM, 4), (MEM + 8, 0x78), DECLARED[1]]),
        (Choice(removed=(zone(MEM + 0x70, 0x98),)), [(MEM, 0x70), (MEM + 0x108, 8)]),
        (Choice(True, (zone(0x10, 8),), (zone(0x14, 8),)), [(0x10, 4), *DECLARED]),
        (Choice(removed=(zone(MEM, 0x200, pio=True),)), DECLARED),
        (Choice(added=(zone(0x10, 4, pio=True),)), DECLARED),
    ],
)
def test_what_is_added_is_joined_and_what_is_removed_is_cut_out(
    choice: Choice, expected: list[Range]
) -> None:
    assert choice.of(False, list(DECLARED)) == expected


def test_chosen_zones_are_registered_with_those_of_the_devices() -> None:
    accel = FakeAccelerator()
    chosen = Choice(True, (zone(0x300, 8), zone(0x72, 1, pio=True)), (zone(MEM + 0x10, 4),))
    machine = Machine(accel, zones=chosen)
    machine.memory.map(Recorder("mem", 0x100, coalesced=((0, 0x80),)).region, MEM)
    machine.ports.map(Recorder("port", 0x10, coalesced=((0, 8),)).region, PORT)
    assert machine.coalescing.zones == {
        False: [(0x300, 8), (MEM, 0x10), (MEM + 0x14, 0x6C)],
        True: [(0x72, 1), (PORT, 8)],
    }
    assert machine.coalescing.kind_of(MEM + 0x10, 4, port=False) == "no_zone"
    assert machine.coalescing.kind_of(MEM + 0xC, 8, port=False) == "straddle"


def test_a_chosen_zone_stays_when_its_device_moves() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel, zones=Choice(added=(zone(MEM + 0x90, 8),)))
    device = Recorder("mem", 0x100, coalesced=((0, 0x80),))
    mapping = machine.memory.map(device.region, MEM)
    machine.memory.unmap(mapping)
    assert machine.coalescing.zones[False] == [(MEM + 0x90, 8)]


def test_nothing_is_queued_where_coalescing_is_off() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel, coalesce=False, zones=Choice(added=(zone(0x300, 8),)))
    machine.memory.map(Recorder("mem", 0x100, coalesced=((0, 0x80),)).region, MEM)
    assert machine.coalescing.zones == {False: [], True: []}


def test_posted_ranges_are_cut_out_of_the_queued_ones() -> None:
    """Those that a device declares and those that a user chooses; what is removed is neither."""
    accel = FakeAccelerator()
    chosen = Choice(True, removed=(zone(MEM + 0x40, 4),), posted=(zone(MEM + 0x20, 8),))
    machine = Machine(accel, zones=chosen)
    device = Recorder("mem", 0x100, coalesced=((0, 0x80),), posted=((0x10, 4), (0x3C, 8)))
    machine.memory.map(device.region, MEM)
    posted = [(MEM + 0x10, 4), (MEM + 0x20, 8), (MEM + 0x3C, 4)]
    queued = [(MEM, 0x10), (MEM + 0x14, 0xC), (MEM + 0x28, 0x14), (MEM + 0x44, 0x3C)]
    assert [entry[1:3] for entry in accel.log if entry[0] == "post"] == posted
    assert [entry[1:3] for entry in accel.log if entry[0] == "register"] == queued
    assert machine.coalescing.zones[False] == sorted(queued + posted)
    assert machine.coalescing.kind_of(MEM + 0x10, 4, port=False) == "ring_full"
    assert machine.coalescing.kind_of(MEM + 0xC, 8, port=False) == "straddle"


def test_a_posted_range_exits_where_the_accelerator_posts_nothing() -> None:
    accel = FakeAccelerator()
    accel.posted = False
    machine = Machine(accel)
    device = Recorder("mem", 0x100, coalesced=((0, 0x80),), posted=((0x10, 4),))
    machine.memory.map(device.region, MEM)
    assert machine.coalescing.zones[False] == [(MEM, 0x10), (MEM + 0x14, 0x6C)]
    assert machine.coalescing.kind_of(MEM + 0x10, 4, port=False) == "no_zone"


def test_a_range_that_is_posted_where_another_was_queued_is_registered_anew() -> None:
    """The old zone is gone before the new one counts, in one request."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.memory.map(Recorder("one", 8, coalesced=((0, 8),)).region, MEM)
    machine.memory.map(Recorder("two", 8, posted=((0, 8),)).region, MEM, priority=1)
    zones = [entry for entry in accel.log if entry[0] in ("register", "unregister", "post")]
    assert zones == [
        ("register", MEM, 8, False),
        ("unregister", MEM, 8, False),
        ("post", MEM, 8, False),
    ]


@given(
    st.lists(st.integers(0, 40), max_size=8),
    st.integers(0, 48),
    st.sampled_from([1, 2, 4, 8]),
)
def test_the_reason_for_an_exit_is_that_of_the_zones_one_by_one(
    edges: list[int], address: int, size: int
) -> None:
    """Zones may touch, and an access may cover several; none overlaps another."""
    ordered = sorted(edges)
    pairs = zip(ordered[::2], ordered[1::2], strict=False)
    added = tuple(zone(start, stop - start) for start, stop in pairs if start < stop)
    coalescing = Machine(FakeAccelerator(), zones=Choice(False, added)).coalescing
    inside, touched = False, False
    for start, length in coalescing.zones[False]:
        inside |= start <= address and address + size <= start + length
        touched |= start < address + size and address < start + length
    expected = "ring_full" if inside else "straddle" if touched else "no_zone"
    assert coalescing.kind_of(address, size, port=False) == expected
