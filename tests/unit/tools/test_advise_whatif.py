"""Exits under other conditions: a limit on waits, rings of their own, ioeventfds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coalesced.tools.advise.advice import Options
from coalesced.tools.advise.names import Map
from coalesced.tools.advise.report import BELLS, lines
from coalesced.tools.advise.whatif import Doorbell, Stale
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape

WINDOW, OTHER = 0xFD000000, 0xFEB00000
BELL = Zone(False, OTHER + 0x10, 4)


def fill(tape: Tape, count: int, *, exits: bool) -> None:
    for number in range(count):
        tape.store(WINDOW + 4 * number, number, exits=exits)


def test_a_limit_on_waits_drains_the_ring_and_counts_what_it_cuts_short(tmp_path: Path) -> None:
    """100 stores, one in 8 µs, and the exit of a load 10 µs later: 802 µs from the first one."""
    tape = Tape()
    fill(tape, 100, exits=False)
    tape.load(WINDOW, 0)
    limits = tape.advice(tmp_path).what_if.staleness_ms
    assert limits is not None
    assert limits["0.1"] == Stale(exits=1, late=88, drains=8)
    assert limits["1"] == limits["100"] == Stale(exits=1, late=0, drains=0)


def test_a_limit_on_waits_keeps_a_ring_from_filling(tmp_path: Path) -> None:
    """400 stores, one in 10 µs: 2 exits of a full ring, none if it is drained every ms."""
    tape = Tape()
    fill(tape, 400, exits=True)
    tape.load(WINDOW, 0)
    advice = tape.advice(tmp_path)
    limits = advice.what_if.staleness_ms
    assert limits is not None
    assert (advice.exits, advice.exits_advised) == (401, 3)
    assert [limits[ms].exits for ms in ("0.1", "1", "10")] == [1, 1, 3]


def test_a_drain_that_no_line_shows_ends_waits(tmp_path: Path) -> None:
    """269 stores, one in 8 µs: the ring is drained before the 101st, and by the load at the end.

    Of the first 100 the last 12 wait 100 µs at most, of the others the last 12 do.
    """
    tape = Tape()
    tape.load(WINDOW, 0)
    fill(tape, 269, exits=False)
    tape.load(WINDOW, 0)
    advice = tape.advice(tmp_path)
    limits = advice.what_if.staleness_ms
    assert advice.agreement is not None
    assert limits is not None
    assert advice.agreement.unseen_drains == 1
    assert limits["0.1"].late == 88 + 157
    assert limits["1"] == Stale(exits=2, late=45, drains=1)


def test_without_times_there_is_no_limit_on_waits(tmp_path: Path) -> None:
    tape = Tape()
    fill(tape, 100, exits=True)
    tape.lines = [f" q-7 [000] ..... {line.partition(': ')[2]}" for line in tape.lines]
    assert tape.advice(tmp_path).what_if.staleness_ms is None


def test_a_ring_for_each_zone_is_drained_by_its_own_exits_alone(tmp_path: Path) -> None:
    """Twice 100 stores: exits elsewhere drain the VM's ring, but not the zone's own."""
    tape = Tape()
    for at in (OTHER, OTHER, WINDOW + 0xFFC, OTHER):
        fill(tape, 100, exits=True)
        tape.load(at, 0)
    advice = tape.advice(tmp_path)
    assert advice.exits_advised == 4
    assert advice.what_if.ring_per_zone == 4 + 1


def test_a_ring_for_each_device_is_drained_by_exits_to_any_of_its_zones(tmp_path: Path) -> None:
    """Two windows, far apart, with the name of one device or without names."""
    tape = Tape()
    for _ in range(2):
        for start in (WINDOW, WINDOW + 0x10000):
            for at in range(100):
                tape.store(start + 4 * at, at)
        tape.load(WINDOW + 0xFFC, 0)
    path = tmp_path / "map"
    path.write_text(f"{WINDOW:08x}-{WINDOW + 0x1FFFF:08x} : card\n")
    plain = tape.advice(tmp_path).what_if
    named = tape.advice(tmp_path, Options(names=Map.read(path))).what_if
    assert plain.ring_per_zone == plain.ring_per_device == named.ring_per_zone == 2 + 1
    assert named.ring_per_device == 2 + 2


def test_a_doorbell_of_one_value_may_be_an_ioeventfd(tmp_path: Path) -> None:
    tape = Tape()
    for number in range(20):
        tape.store(BELL.address, 7)
        tape.idle(5_000)
        tape.store(OTHER + 0x20, number)  # of several values
        tape.idle(5_000)
        tape.store(OTHER + 0x40, 1)  # read back
        tape.load(OTHER + 0x40, 0)
        tape.store(OTHER + 0x60, 1)  # its neighbour is read: it answers at once
        tape.load(OTHER + 0x64, number)
    advice = tape.advice(tmp_path)
    assert list(advice.what_if.ioeventfds) == [Doorbell(BELL, 7, 20)]
    assert not any(" more" in line for line in lines(advice))
    many = replace(advice.what_if, ioeventfds=[Doorbell(BELL, 7, 20)] * (BELLS + 2))
    assert "  and 2 more, see --json" in lines(replace(advice, what_if=many))
