"""Index registers, proven by the values of their data; and registers that only look like one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalesced.tools.advise.advice import RangeAdvice
from coalesced.tools.advise.verdicts import Verdict
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape


@dataclass(frozen=True)
class Registers:
    """Two adjacent registers: ports or memory, the second one above or below the first."""

    pio: bool
    first: int
    second: int

    def write(self, tape: Tape, address: int, value: int) -> None:
        if self.pio:
            tape.out(address, value, 4)
        else:
            tape.store(address, value)

    def read(self, tape: Tape, address: int, value: int) -> None:
        if self.pio:
            tape.in_(address, value, 4)
        else:
            tape.load(address, value)


PLACES = [
    Registers(True, 0xC00, 0xC04),
    Registers(True, 0xC14, 0xC10),
    Registers(False, 0xFEB00010, 0xFEB00014),
    Registers(False, 0xFEB00018, 0xFEB00010),
]
NAMES = ["ports, data above", "ports, data below", "memory, data above", "memory, data below"]
both_sides = pytest.mark.parametrize("place", PLACES, ids=NAMES)


def scan(tape: Tape, place: Registers, rounds: int = 4) -> None:
    """16 registers behind an index, each read in each round; one is written."""
    stored = {index: index * index * 7 & 0xFFFF for index in range(16)}
    for number in range(rounds):
        for index in range(16):
            place.write(tape, place.first, index)
            place.read(tape, place.second, stored[index])
        place.write(tape, place.first, 9)
        stored[9] = 0x400 + 37 * number
        place.write(tape, place.second, stored[9])


def of_first(tape: Tape, place: Registers, tmp_path: Path) -> RangeAdvice:
    advice = tape.advice(tmp_path)
    zone = Zone(place.pio, place.first, 4)
    found = next(each for each in advice.ranges if each.zone == zone)
    assert (found.verdict is Verdict.COALESCE) == any(z.holds(zone) for z in advice.advised)
    assert not any(z.holds(Zone(place.pio, place.second, 4)) for z in advice.advised)
    return found


@both_sides
def test_an_index_is_proven_by_data_that_repeats_and_differs(
    tmp_path: Path, place: Registers
) -> None:
    tape = Tape()
    scan(tape, place)
    found = of_first(tape, place, tmp_path)
    assert (found.verdict, found.saves) == (Verdict.COALESCE, 4 * 17)
    assert "48 reads repeat under their index" in found.reason
    assert found.line == 1


@both_sides
def test_an_index_that_is_late_once_is_advised_all_the_same(
    tmp_path: Path, place: Registers
) -> None:
    """The guest was held up between the index and its data: nothing can tell."""
    tape = Tape()
    scan(tape, place)
    place.write(tape, place.first, 3)
    tape.idle(50_000)
    place.read(tape, place.second, 63)
    found = of_first(tape, place, tmp_path)
    assert found.verdict is Verdict.COALESCE
    assert "; 1 write would wait long, without effect" in found.reason


def late_often(tape: Tape, place: Registers) -> None:
    """The writes of one value start something that the guest waits for."""
    for number in range(300):
        place.write(tape, place.first, number % 16)
        if number % 16 == 5:
            tape.idle(3_000)
        place.read(tape, place.second, (number % 16) ** 2 * 7)


def one_value_is_awaited(tape: Tape, place: Registers) -> None:
    """Of many values two writes of one are late, and no other write of it is prompt."""
    scan(tape, place, rounds=30)
    for _ in range(2):
        place.write(tape, place.first, 0x80000000)
        tape.idle(3_000)
        place.read(tape, place.second, 1)


def results_of_commands(tape: Tape, place: Registers) -> None:
    """Each command has its result, which an interrupt announces."""
    for number in range(64):
        place.write(tape, place.first, number % 8)
        tape.idle(2_000)
        place.read(tape, place.second, (number % 8) ** 2)


def status_of_commands(tape: Tape, place: Registers) -> None:
    """Several commands, and one status for all."""
    for number in range(64):
        place.write(tape, place.first, 1 << number % 8)
        place.read(tape, place.second, 1)


def two_commands(tape: Tape, place: Registers) -> None:
    """A status tells which of two commands was the last."""
    for number in range(64):
        place.write(tape, place.first, number % 2)
        place.read(tape, place.second, 0x10 * (number % 2))


def tail_and_head(tape: Tape, place: Registers) -> None:
    """The head follows the tail at once: the data is the index."""
    for number in range(64):
        place.write(tape, place.first, number % 16)
        place.read(tape, place.second, number % 16)


def tail_and_counter(tape: Tape, place: Registers) -> None:
    """The register after a ring's tail counts what the tail sent."""
    for number in range(64):
        place.write(tape, place.first, number % 16)
        place.read(tape, place.second, number * 3)


def write_one_to_clear(tape: Tape, place: Registers) -> None:
    for number in range(64):
        place.read(tape, place.first, 1 << number % 8)
        place.write(tape, place.first, 1 << number % 8)
        place.read(tape, place.second, (number % 8) ** 2 * 5)


def selector_of_a_stream(tape: Tape, place: Registers) -> None:
    """Each selection reads the next bytes of a file."""
    for number in range(64):
        place.write(tape, place.first, number % 4)
        for byte in range(3):
            place.read(tape, place.second, number * 40503 + byte * 77 & 0xFF)


def data_port(tape: Tape, place: Registers) -> None:
    """A FIFO beside its status."""
    for number in range(64):
        place.write(tape, place.first, number * 40503 & 0xFFFF)
        place.read(tape, place.second, number % 3)


def descriptor_then_tail(tape: Tape, place: Registers) -> None:
    for number in range(64):
        place.write(tape, place.first, 0x1000 * (number % 16))
        place.write(tape, place.second, number % 16)


def bank_before_a_small_window(tape: Tape, place: Registers) -> None:
    """32 bytes behind a bank: reads repeat under their bank, but they are a window."""
    for number in range(64):
        bank = number % 8
        place.write(tape, place.first, bank)
        for word in range(8):
            place.read(tape, place.second + 4 * word, bank * 1000 + word * word)


TRAPS: list[Callable[[Tape, Registers], None]] = [
    late_often, one_value_is_awaited, results_of_commands, status_of_commands, two_commands,
    tail_and_head, tail_and_counter, write_one_to_clear, selector_of_a_stream, data_port,
    descriptor_then_tail, bank_before_a_small_window,
]  # fmt: skip


@both_sides
@pytest.mark.parametrize("record", TRAPS)
def test_a_register_whose_write_may_have_an_effect_is_no_index(
    tmp_path: Path, record: Callable[[Tape, Registers], None], place: Registers
) -> None:
    tape = Tape()
    record(tape, place)
    assert of_first(tape, place, tmp_path).verdict is not Verdict.COALESCE


@both_sides
def test_without_times_no_index_is_proven(tmp_path: Path, place: Registers) -> None:
    """Nothing tells whether the guest waits after it."""
    tape = Tape()
    scan(tape, place)
    lines = [line.partition(": ")[2] for line in tape.lines]
    tape.lines = [f" q-7 [000] ..... {line}" for line in lines]
    found = of_first(tape, place, tmp_path)
    assert found.verdict is Verdict.UNPROVEN
    assert "no time stamp" in found.reason
