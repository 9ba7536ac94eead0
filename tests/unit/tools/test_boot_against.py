"""Exits of two worlds, compared by reason and place and in their order."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.region import Region
from coalesced.hv.abi import KVM_EXIT_HLT, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_MMIO
from coalesced.tools.boot.against import Row, against
from coalesced.tools.boot.exits import Log, Seen, port_name, watch
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine


def log(*exits: tuple[str, str], full: int = 0) -> Log:
    found = Log(hex)
    for number, (reason, place) in enumerate(exits, 1):
        found.add(reason, place, None, number * full)
    return found


def test_the_log_of_a_machine_counts_by_port_and_by_region() -> None:
    with Machine(DirectAccelerator()) as machine:
        board = Board(machine, 2 << 20)
        screen = Region("screen", 64, lambda _at, _size: 0, lambda *_: None)
        machine.memory.map(screen, 0xF0000000)
        found = watch(machine, board)
        see = machine._see
        assert see is not None
        board.host.config_address = 0x80001234
        for exit_ in (
            (KVM_EXIT_MMIO, 0xF0000000, 4, True, 7),
            (KVM_EXIT_MMIO, 0xF0000004, 4, False, 0),
            (KVM_EXIT_MMIO, 0x90000000, 4, True, 8),
            (KVM_EXIT_IO, 0x3D4, 1, True, 9),
            (KVM_EXIT_IO, 0xCFC, 4, False, 0),
            (KVM_EXIT_INTR, 0, 0, False, 0),
            (KVM_EXIT_HLT, 0, 0, False, 0),
        ):
            see(exit_)
    assert found.order == [
        Seen("no_zone", "screen", 7, 0),
        Seen("load", "screen", None, 0),
        Seen("no_zone", "0x90000000", 8, 0),
        Seen("pio", "port 0x3d4", 9, 0),
        Seen("pio", "port 0xcfc of 00:02.2", None, 0),
        Seen("hlt", "", None, 0),
    ]
    assert found.counts == {(each.reason, each.place): 1 for each in found.order}


def test_a_window_that_is_plain_memory_is_a_place_of_its_own() -> None:
    with Machine(DirectAccelerator()) as machine:
        board = Board(machine, 2 << 20)
        spec = parse_spec("isa-vga")
        board.add(create(spec, board.addresses), spec)
        board.complete()
        name = watch(machine, board).name
        assert name(0xA0000) == "vga-lowmem"
        for index, value in ((2, 0x0F), (4, 0x0E)):
            machine.ports.write(0x3C4, 2, value << 8 | index)
        assert name(0xA0000) == "vga-lowmem as plain memory"


@pytest.mark.parametrize(
    ("port", "address", "name"),
    [
        (0xCFB, 0x80001234, "port 0xcfb"),
        (0xCFC, 0x80000900, "port 0xcfc of 00:01.1"),
        (0xCFF, 0x80FFFF04, "port 0xcff of ff:1f.7"),
        (0xD00, 0x80001234, "port 0xd00"),
    ],
)
def test_configuration_data_is_told_apart_by_function(port: int, address: int, name: str) -> None:
    assert port_name(port, address) == name


def test_the_most_frequent_come_first_and_a_missing_place_counts_zero() -> None:
    found = against(["a", "b"], [log(("load", "x")), log(*[("load", "y")] * 5)], {})
    assert [(row.place, row.exits) for row in found.rows] == [("y", [0, 5]), ("x", [1, 0])]
    assert not found.ok


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("port 0x61", "depends on time"),
        ("port 0x608", "depends on time"),
        ("", "depends on time"),
        ("port 0x3d4", ""),
        ("vga", ""),
        ("port 0xcfc of 00:01.1", "no such function"),
        ("port 0xcfc of 00:01.10", ""),
    ],
)
def test_only_what_has_a_cause_may_differ(place: str, cause: str) -> None:
    causes = {"port 0xcfc of 00:01.1": "no such function"}
    found = against(["a", "b"], [log(("pio", place)), log(*[("pio", place)] * 2)], causes)
    assert found.rows == [Row("pio", place, [1, 2], cause)]
    assert found.ok == bool(cause)
    assert (found.first_difference is None) == bool(cause)


def test_the_first_difference_is_shown_with_what_is_around_it() -> None:
    one = log(*(("pio", f"port {port:#x}") for port in (1, 2, 0x61, 3, 4, 5, 6)))
    other = log(*(("pio", f"port {port:#x}") for port in (1, 2, 3, 0x61, 5, 4, 6)))
    found = against(["a", "b"], [one, other], {})
    assert found.ok
    assert found.first_difference is not None
    assert (found.first_difference.number, found.first_difference.at) == (4, 2)
    assert found.first_difference.exits == [
        ["pio port 0x2", "pio port 0x3", "pio port 0x4", "pio port 0x5", "pio port 0x6"],
        ["pio port 0x2", "pio port 0x3", "pio port 0x5", "pio port 0x4", "pio port 0x6"],
    ]


def test_a_world_that_ends_early_differs_at_its_end() -> None:
    found = against(["a", "b"], [log(("pio", "port 0x1")), log()], {})
    assert found.first_difference is not None
    assert found.first_difference.exits == [["pio port 0x1"], []]


def test_full_rings_are_counted_by_their_entries() -> None:
    full = log(*[("ring_full", "vga")] * 3, full=169)
    assert against(["a", "b"], [full, log()], {}).full_rings == [{169: 3}, {}]


def test_a_world_that_time_stopped_may_lack_the_last_exits_of_the_other_one() -> None:
    short = log(("pio", "port 0x80"), ("pio", "port 0x81"))
    long = log(("pio", "port 0x80"), ("pio", "port 0x81"), ("pio", "port 0x80"))
    other = log(("pio", "port 0x81"), ("pio", "port 0x80"))
    found = against(["a", "b"], [short, long], {}, stopped=True)
    assert (found.ok, found.first_difference) == (True, None)
    assert {row.cause for row in found.rows} == {"the runs were stopped by time"}
    assert not against(["a", "b"], [short, long], {}).ok
    differing = against(["a", "b"], [short, other], {}, stopped=True).first_difference
    assert differing is not None
    assert differing.number == 1
