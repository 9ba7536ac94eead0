"""Exits of two worlds, compared by reason and place."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.region import Region
from coalesced.tools.boot.against import Row, against, exits_of
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.machine import Machine


def test_counts_are_by_port_and_by_region() -> None:
    with Machine(DirectAccelerator()) as machine:
        machine.memory.map(Region("screen", 64, lambda _at, _size: 0, lambda *_: None), 0x1000)
        at = machine.counters.exits_at
        for address in (0x1000, 0x1004, 0x9000):
            at["no_zone", False][address] += 1
        at["pio", True][0x3D4] += 2
        machine.counters.halts = 3
        assert exits_of(machine) == {
            ("no_zone", "screen"): 2,
            ("no_zone", "0x9000"): 1,
            ("pio", "port 0x3d4"): 2,
            ("hlt", ""): 3,
        }


def test_the_most_frequent_come_first_and_a_missing_place_counts_zero() -> None:
    found = against(["a", "b"], [{("load", "x"): 1}, {("load", "y"): 5}])
    assert [(row.place, row.exits) for row in found.rows] == [("y", [0, 5]), ("x", [1, 0])]
    assert not found.ok


@pytest.mark.parametrize(
    ("place", "by_time"),
    [("port 0x61", True), ("port 0x608", True), ("port 0x3d4", False), ("vga", False), ("", True)],
)
def test_only_what_depends_on_time_may_differ(place: str, by_time: bool) -> None:
    found = against(["a", "b"], [{("pio", place): 1}, {("pio", place): 2}])
    assert found.rows == [Row("pio", place, [1, 2], by_time)]
    assert found.ok == by_time


def test_equal_counts_are_fine_anywhere() -> None:
    assert against(["a", "b"], [{("pio", "port 0x3d4"): 7}] * 2).ok
