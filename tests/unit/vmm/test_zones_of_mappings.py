"""The zones that follow the mappings, and what goes without one."""

from __future__ import annotations

import errno
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.hv.client import ZoneChange
from coalesced.hv.errors import RequestError
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import (
    FakeAccelerator,
    Queued,
    Recorder,
    in_,
    load,
    out,
    store,
)
from helpers.vmm_recording import MEM, PORT, Board

# --- zones ---


def zones(accel: FakeAccelerator) -> list[tuple[object, ...]]:
    return [entry for entry in accel.log if entry[0] in ("register", "unregister")]


def test_mapping_registers_zones_and_unmapping_takes_them_away() -> None:
    board = Board()
    assert zones(board.accel) == [
        ("register", MEM, 0x80, False),
        ("register", PORT, 8, True),
    ]
    board.accel.log.clear()
    mapping = board.machine.memory.find(MEM).mapping
    assert mapping is not None
    board.machine.memory.unmap(mapping)
    assert board.accel.log == [("pause",), ("unregister", MEM, 0x80, False)]


def test_before_a_change_the_guest_stops_then_the_queue_is_flushed_then_zones_follow() -> None:
    board = Board()
    mapping = board.machine.memory.find(MEM).mapping
    assert mapping is not None
    board.accel.put(Queued(MEM + 4, 1, 0x77))
    board.accel.log.clear()
    board.mem.on_write = lambda _o, _v: board.accel.log.append(("arrived",))
    board.machine.memory.unmap(mapping)
    assert board.accel.log == [("pause",), ("arrived",), ("unregister", MEM, 0x80, False)]
    assert board.mem.seen == [("write", 4, 1, 0x77)]


def test_when_the_owner_of_a_zone_changes_the_old_is_gone_before_the_new_counts() -> None:
    board = Board()
    board.accel.log.clear()
    board.machine.memory.map(Recorder("over", 0x10, coalesced=((0, 0x10),)).region, MEM + 0x78)
    assert zones(board.accel) == [
        ("unregister", MEM, 0x80, False),
        ("register", MEM, 0x78, False),
        ("register", MEM + 0x78, 0x10, False),
    ]


def test_zones_that_stay_are_left_alone() -> None:
    board = Board()
    board.accel.log.clear()
    board.machine.memory.map(Recorder("far", 0x10, coalesced=((0, 1),)).region, 0x100)
    assert zones(board.accel) == [("register", 0x100, 1, False)]


@given(st.permutations(range(20)), st.sets(st.integers(0, 19)))
def test_many_devices_added_at_once_have_the_zones_that_they_get_one_by_one(
    order: list[int], posted: set[int]
) -> None:
    """In any order, with one request for the zones of a ring."""
    found, requests = [], []
    for together in (False, True):
        accel = FakeAccelerator()
        machine = Machine(accel)
        with machine.memory.changing() if together else nullcontext():
            for number in order if together else range(20):
                parts = ((2, 4), (9, 3))
                device = Recorder(
                    str(number),
                    0x10,
                    coalesced=() if number in posted else parts,
                    posted=parts if number in posted else (),
                )
                machine.memory.map(device.region, number * 0x10)
        found.append((machine.coalescing.zones, machine.coalescing.edges, sorted(zones(accel))))
        requests.append(accel.log.count(("pause",)))
        machine.close()
    assert found[0] == found[1]
    assert requests == [20, 1]


def test_a_queued_write_may_change_the_mappings_before_several_changes_at_once() -> None:
    """What is queued behind it goes to where it put a device."""
    board = Board()
    memory, moved = board.machine.memory, Recorder("moved", 1)
    board.mem.on_write = lambda _o, _v: memory.map(moved.region, 0x100)
    board.accel.put(Queued(MEM, 1, 0x11), Queued(0x100, 1, 0x22))
    with memory.changing():
        memory.map(Recorder("other", 1).region, 0x200)
    assert moved.seen == [("write", 0, 1, 0x22)]


def test_a_neighbour_in_the_middle_splits_a_zone_into_its_visible_parts() -> None:
    """As port 0xcf9 cuts the zone of 0xcf8."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.ports.map(Recorder("config", 8, coalesced=((0, 8),)).region, 0xCF8)
    reset = machine.ports.map(Recorder("reset", 1).region, 0xCF9, priority=1)
    assert zones(accel)[-2:] == [
        ("register", 0xCF8, 1, True),
        ("register", 0xCFA, 6, True),
    ]
    kind_of = machine.coalescing.kind_of
    assert kind_of(0xCF8, 4, True) == "straddle"
    assert kind_of(0xCF8, 1, True) == "ring_full"
    assert kind_of(0xCF9, 1, True) == "no_zone"
    assert kind_of(0xCFA, 4, True) == "ring_full"
    assert kind_of(0xCF8, 1, False) == "no_zone"
    machine.ports.unmap(reset)
    assert kind_of(0xCF8, 4, True) == kind_of(0xCF9, 1, True) == "ring_full"


def test_overlapping_ranges_of_a_region_become_one_zone() -> None:
    """Or taking one away would take the other along; those that only touch stay apart."""
    accel = FakeAccelerator()
    region = Recorder("r", 0x40, coalesced=((0x20, 8), (0, 0x10), (8, 0x10), (0x28, 8))).region
    Machine(accel).memory.map(region, 0x1000)
    assert zones(accel) == [
        ("register", 0x1000, 0x18, False),
        ("register", 0x1020, 8, False),
        ("register", 0x1028, 8, False),
    ]


def many(count: int) -> Recorder:
    """A device with as many coalescible ranges, 16 bytes apart."""
    ranges = tuple((16 * number, 8) for number in range(count))
    return Recorder("many", 16 * count, coalesced=ranges)


def registered(machine: Machine) -> list[tuple[int, int]]:
    return machine.coalescing.zones[False]


def test_ranges_without_room_go_without_a_zone_and_the_user_is_told_once() -> None:
    accel = FakeAccelerator()
    accel.room = 2
    lines: list[str] = []
    machine = Machine(accel, warn=lines.append)
    mapping = machine.memory.map(many(4).region, 0x1000)
    assert registered(machine) == [(0x1000, 8), (0x1010, 8)]
    assert lines == [
        "warning: memory: the kernel has no room for more than 2 coalesced zones: "
        "writes to 0x1020+0x8 and 1 more ranges exit"
    ]
    kind_of = machine.coalescing.kind_of
    assert [kind_of(at, 4, False) for at in (0x1010, 0x1014, 0x1016, 0x1020)] == [
        "ring_full", "ring_full", "straddle", "no_zone",
    ]  # fmt: skip
    accel.log.clear()
    machine.memory.unmap(mapping)
    # Only what the kernel took is given back.
    assert zones(accel) == [("unregister", 0x1000, 8, False), ("unregister", 0x1010, 8, False)]
    machine.memory.map(many(4).region, 0x2000)
    assert registered(machine) == [(0x2000, 8), (0x2010, 8)]
    assert len(lines) == 1


def test_ranges_get_their_zones_when_others_leave_room() -> None:
    accel = FakeAccelerator()
    accel.room = 3
    machine = Machine(accel)
    first = machine.memory.map(many(2).region, 0x1000)
    machine.memory.map(many(2).region, 0x2000)
    assert registered(machine) == [(0x1000, 8), (0x1010, 8), (0x2000, 8)]
    machine.memory.unmap(first)
    assert registered(machine) == [(0x2000, 8), (0x2010, 8)]


def test_a_full_kind_of_zones_leaves_the_other_kind_alone() -> None:
    board = Board()
    board.accel.room = 0
    board.machine.memory.map(many(1).region, 0x1000)
    board.accel.room = 1
    board.machine.ports.map(many(1).region, 0x1000)
    assert board.machine.coalescing.zones[True] == [(PORT, 8), (0x1000, 8)]


def test_a_range_of_4_gib_and_more_becomes_several_zones() -> None:
    """A zone counts its bytes in 32 bits. Accesses do not cross a page, nor then a seam."""
    accel = FakeAccelerator()
    big = 5 << 30
    machine = Machine(accel)
    machine.memory.map(Recorder("big", big, coalesced=((0, big),), memory=False).region, 1 << 40)
    assert [size for _, size in registered(machine)] == [2 << 30, 2 << 30, 1 << 30]
    assert machine.coalescing.kind_of((1 << 40) + big - 8, 8, False) == "ring_full"


def test_a_range_that_ends_with_the_space_gets_no_zone() -> None:
    """KVM compares 64-bit sums: such a zone would hold nothing, and nothing would remove it."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.memory.map(Recorder("top", 16, coalesced=((0, 16),)).region, (1 << 64) - 16)
    assert zones(accel) == []
    assert machine.coalescing.kind_of((1 << 64) - 8, 8, False) == "no_zone"


def test_another_refusal_of_a_zone_stays_what_it_is() -> None:
    class Odd(FakeAccelerator):
        def change_coalesced(self, change: ZoneChange) -> int:
            raise RequestError(errno.EINVAL, f"odd {change.port}")

    with pytest.raises(RequestError, match="odd"):
        Board(accel=Odd())


# --- without the capability ---


@pytest.mark.parametrize(("mmio", "pio"), [(False, False), (True, False), (False, True)])
def test_only_the_kinds_that_the_kernel_offers_get_zones(mmio: bool, pio: bool) -> None:
    board = Board(accel=FakeAccelerator(mmio=mmio, pio=pio))
    assert board.machine.coalescing.supported == {False: mmio, True: pio}
    assert {entry[3] for entry in zones(board.accel)} == ({False} if mmio else set()) | (
        {True} if pio else set()
    )


def test_without_a_ring_everything_works_by_exits() -> None:
    script = [store(MEM, 1), load(MEM), out(PORT, 2), in_(PORT)]
    board = Board(accel=FakeAccelerator(script, ring=False))
    board.run()
    assert board.accel.completed == [1, 2]
    assert board.machine.coalescing.supported == {False: False, True: False}
    assert zones(board.accel) == []
    assert dict(board.machine.counters.exits_by) == {"no_zone": 1, "load": 1, "pio": 2, "hlt": 1}
    assert board.machine.flush() == 0


def test_coalescing_can_be_turned_off() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel, coalesce=False)
    machine.memory.map(Recorder("r", 0x10, coalesced=((0, 0x10),)).region, 0)
    assert zones(accel) == []
    assert machine.coalescing.supported == {False: False, True: False}
