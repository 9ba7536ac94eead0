"""Ranges that must not be advised, and those that must: by what a recording shows alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coalesced.tools.advise.advice import ExitCost, Options, RangeAdvice
from coalesced.tools.advise.verdicts import Verdict
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape

BAR = 0xFEB00000
STATUS, COMMAND, DATA, TAIL, BANK = BAR, BAR + 0x10, BAR + 0x20, BAR + 0x30, BAR + 0x40
DESCRIPTOR = BAR + 0x2C
WINDOW = 0xFD000000


def write_one_to_clear(tape: Tape) -> None:
    for bit in range(20):
        tape.load(STATUS, 1 << bit)
        tape.store(STATUS, 1 << bit)
        tape.load(STATUS, 0)


def self_clearing_command(tape: Tape) -> None:
    for _ in range(20):
        tape.store(COMMAND, 0x80000001)
        tape.load(COMMAND, 0x80000001)
        tape.load(COMMAND, 0x1)


def doorbell_before_an_interrupt(tape: Tape) -> None:
    for number in range(20):
        tape.store(COMMAND, 1 << number % 2)
        tape.idle(5_000)
        tape.load(STATUS, 1)


def doorbell_that_is_seldom_waited_for(tape: Tape) -> None:
    for number in range(100):
        tape.store(COMMAND, 1 << number % 2)
        if number % 20 == 19:
            tape.idle(5_000)
        tape.load(STATUS, 1)


def doorbell_with_polling(tape: Tape) -> None:
    for number in range(20):
        tape.store(STATUS - 4, 1 << number % 2)
        for _ in range(5):
            tape.load(STATUS, 0)
        tape.load(STATUS, 1)


def doorbell_with_one_poll(tape: Tape) -> None:
    for _ in range(20):
        tape.store(STATUS - 4, 1)
        tape.load(STATUS, 1)


def data_port(tape: Tape) -> None:
    for block in range(8):
        for number in range(100):
            tape.store(DATA, (number * 40503 + block) & 0xFFFF)
        tape.load(STATUS, 1)


def ring_of_descriptors(tape: Tape) -> None:
    for number in range(40):
        tape.store(DESCRIPTOR, 0x1000 * number)
        tape.store(TAIL, number % 16)
        tape.load(STATUS, 0)


def bank_before_a_window(tape: Tape) -> None:
    for bank in range(6):
        tape.store(BANK, bank % 2)
        fill(tape, rounds=1, end=0x120)
        tape.load(STATUS, 0)


def fill(tape: Tape, rounds: int = 3, end: int = 0x400) -> None:
    for number in range(rounds):
        for at in range(0, end, 4):
            tape.store(WINDOW + at, at * 3 + number)
        tape.load(WINDOW, number)


def ports_that_map(tape: Tape) -> None:
    for number in range(20):
        tape.out(0xCF8, 0x80001810, 4)
        tape.out(0xCFC, 0xFE000000 + (number << 20), 4)


TRAPS: list[tuple[Callable[[Tape], None], Zone, Verdict]] = [
    (write_one_to_clear, Zone(False, STATUS, 4), Verdict.LEAVE),
    (self_clearing_command, Zone(False, COMMAND, 4), Verdict.LEAVE),
    (doorbell_before_an_interrupt, Zone(False, COMMAND, 4), Verdict.LEAVE),
    (doorbell_that_is_seldom_waited_for, Zone(False, COMMAND, 4), Verdict.UNPROVEN),
    (doorbell_with_polling, Zone(False, STATUS - 4, 4), Verdict.UNPROVEN),
    (doorbell_with_one_poll, Zone(False, STATUS - 4, 4), Verdict.UNPROVEN),
    (data_port, Zone(False, DATA, 4), Verdict.UNPROVEN),
    (ring_of_descriptors, Zone(False, DESCRIPTOR, 4), Verdict.UNPROVEN),
    (ring_of_descriptors, Zone(False, TAIL, 4), Verdict.LEAVE),
    (bank_before_a_window, Zone(False, BANK, 4), Verdict.UNPROVEN),
    (ports_that_map, Zone(True, 0xCFC, 4), Verdict.LEAVE),
]


def range_of(tape: Tape, tmp_path: Path, zone: Zone, options: Options | None = None) -> RangeAdvice:
    advice = tape.advice(tmp_path, options)
    return next(each for each in advice.ranges if each.zone == zone)


@pytest.mark.parametrize(("record", "zone", "verdict"), TRAPS)
def test_a_trap_is_not_advised_and_a_line_shows_why(
    tmp_path: Path, record: Callable[[Tape], None], zone: Zone, verdict: Verdict
) -> None:
    tape = Tape()
    record(tape)
    found = range_of(tape, tmp_path, zone)
    assert (found.verdict, found.saves) == (verdict, None)
    assert found.line is not None
    access = f"at {zone.address:#x}" if zone.pio else f"gpa {zone.address:#x}"
    assert access in tape.lines[found.line - 1]
    assert not any(z.holds(zone) for z in tape.advice(tmp_path).advised)


def test_all_traps_of_a_device_in_one_recording_leave_only_its_window(tmp_path: Path) -> None:
    tape = Tape()
    for record, _, _ in TRAPS:
        record(tape)
    advised = tape.advice(tmp_path).advised
    assert list(advised) == [Zone(False, WINDOW, 0x120)]


def test_an_index_is_advised_and_its_data_is_not(tmp_path: Path) -> None:
    tape = Tape()
    for number in range(50):
        tape.out(0x70, number)
        tape.in_(0x71, number * 3 & 0xFF)
    tape.out(0x70, 5)
    tape.out(0x71, 9)
    tape.out(0x70, 5)
    tape.in_(0x71, 1)
    advice = tape.advice(tmp_path)
    assert list(advice.advised) == [Zone(True, 0x70, 1)]
    assert (advice.exits, advice.exits_advised) == (104, 52)
    assert advice.ranges[0].saves == 52


def test_a_window_is_advised_and_the_ring_of_a_page_fills(tmp_path: Path) -> None:
    """3 fills of 256 stores and a load each: a store exits when 169 are queued."""
    tape = Tape()
    fill(tape)
    advice = tape.advice(tmp_path, Options(exit_cost=ExitCost(1000.0, "given")))
    assert list(advice.advised) == [Zone(False, WINDOW, 0x400)]
    assert (advice.exits, advice.exits_advised) == (3 * 257, 3 * 2)
    assert advice.what_if.ring_pages["2"] == 3
    assert advice.seconds_saved == pytest.approx((3 * 257 - 6) * 1e-6)


def test_how_stale_a_write_may_become_is_an_option(tmp_path: Path) -> None:
    tape = Tape()
    doorbell_before_an_interrupt(tape)
    found = range_of(tape, tmp_path, Zone(False, COMMAND, 4), Options(staleness_ns=10_000_000))
    assert found.waits_ns is not None
    assert found.waits_ns.p50 == 5_000_000 + 12_000
    assert "would wait" not in found.reason


def test_a_read_in_another_width_is_compared_byte_by_byte(tmp_path: Path) -> None:
    tape = Tape()
    fill(tape)
    tape.load(WINDOW + 4, (4 * 3 + 2) & 0xFF, 1)
    tape.store(WINDOW + 4, 0x55, size=1)
    tape.load(WINDOW + 4, 0x55, 4)
    found = tape.advice(tmp_path).ranges[0]
    assert found.verdict is Verdict.COALESCE
    assert "5 reads give what was written" in found.reason


def test_string_instructions_are_left(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(5):
        tape.out(0x1F0, 1, 2, count=256)
        tape.in_(0x1F7, 0x50)
    found = range_of(tape, tmp_path, Zone(True, 0x1F0, 2))
    assert (found.verdict, found.writes) == (Verdict.LEAVE, 5)
    assert tape.advice(tmp_path).string_accesses == 5
