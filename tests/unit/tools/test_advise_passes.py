"""The passes over a recording count each write, wait and value as it was."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coalesced.tools.advise.advice import Advice, RangeAdvice
from coalesced.tools.advise.passes import PARTS
from coalesced.tools.advise.recording import read
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.errors import BadInput
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape

WINDOW, REGISTER = 0xFD000000, 0xFEB00010


def of_zone(advice: Advice, zone: Zone) -> RangeAdvice:
    return next(each for each in advice.ranges if each.zone == zone)


def test_the_exit_between_an_out_and_an_in_is_that_of_the_in(tmp_path: Path) -> None:
    """The kernel plays the device at port 0x20."""
    tape = Tape()
    for number in range(9):
        tape.out(0x20, number)
        del tape.lines[-1]
        tape.in_(0x71, number)
    tape.out(0x70, 1)
    advice = tape.advice(tmp_path)
    found = of_zone(advice, Zone(True, 0x20, 1))
    assert (found.writes, found.exits, found.verdict) == (9, 0, Verdict.LEAVE)
    assert found.reason.startswith("never exits")
    assert of_zone(advice, Zone(True, 0x70, 1)).exits == 1


@pytest.mark.parametrize(("queued", "drains"), [(169, 0), (170, 1), (338, 1), (339, 2)])
def test_as_few_drains_as_explain_what_was_queued(tmp_path: Path, queued: int, drains: int) -> None:
    """A ring holds 169 entries."""
    tape = Tape()
    tape.load(WINDOW, 0)
    for at in range(queued):
        tape.store(WINDOW + 4 * at, at, exits=False)
    tape.load(WINDOW, 0)
    agreed = tape.advice(tmp_path).agreement
    assert agreed is not None
    assert (agreed.unseen_drains, agreed.writes) == (drains, queued)
    assert agreed.agreed + agreed.explained == queued


def test_a_bank_is_known_by_the_window_that_is_accessed_next(tmp_path: Path) -> None:
    tape = Tape()
    for bank in range(6):
        tape.store(REGISTER, bank % 2)
        for at in range(0, 0x120, 4):
            tape.store(WINDOW + at, at + bank)
        tape.load(REGISTER + 0x40, 0)
    found = of_zone(tape.advice(tmp_path), Zone(False, REGISTER, 4))
    assert found.reason == "6 writes come before accesses to a window: a bank"
    assert found.line == 1


@pytest.mark.parametrize(("step", "counts"), [(1, True), (256, True), (257, False)])
def test_values_that_grow_in_small_steps_count_up(tmp_path: Path, step: int, counts: bool) -> None:
    tape = Tape()
    for number in range(20):
        tape.store(REGISTER, step * number)
        tape.load(REGISTER + 0x40, 0)
    found = of_zone(tape.advice(tmp_path), Zone(False, REGISTER, 4))
    assert ("values count up" in found.reason) == counts


def test_the_first_value_of_a_string_is_not_held_against_what_was_written(tmp_path: Path) -> None:
    """It comes from a FIFO."""
    tape = Tape()
    for number in range(9):
        tape.out(0x1F0, 99 - number, 2)
        tape.in_(0x80, 0)
        tape.in_(0x1F0, 99 - number, 2, count=256)
    found = of_zone(tape.advice(tmp_path), Zone(True, 0x1F0, 2))
    assert found.reads == 9
    assert found.reason == "nothing in the recording shows that the device may get it later"


def test_the_first_of_the_longest_waits_is_shown(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(5):
        tape.store(REGISTER, 1)
        tape.load(REGISTER + 0x40, 0)
    lines = []
    for _ in range(5):
        lines.append(len(tape.lines) + 1)
        tape.store(REGISTER, 2)
        tape.idle(9_000)
        tape.load(REGISTER + 0x40, 0)
    found = of_zone(tape.advice(tmp_path), Zone(False, REGISTER, 4))
    assert found.waits_ns is not None
    assert found.waits_ns.max == 9_012_000
    assert found.line == lines[0]


def test_a_write_is_late_by_the_next_drain_not_by_the_last(tmp_path: Path) -> None:
    """Twice 50 stores, one in 8 µs, then a load: of 400 µs the first 38 and no more wait long."""
    tape = Tape()
    for _ in range(2):
        for at in range(50):
            tape.store(WINDOW + 4 * at, at, exits=False)
        tape.load(WINDOW, 0)
        tape.idle(50_000)
    limits = tape.advice(tmp_path).what_if.staleness_ms
    assert limits is not None
    assert limits["0.1"].late == 2 * 38
    assert limits["1"].late == 0


def test_without_times_the_parts_have_equally_many_events(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(5 * PARTS):
        tape.store(REGISTER, 1)
    tape.lines = [f" q-7 [000] ..... {line.partition(': ')[2]}" for line in tape.lines]
    advice = tape.advice(tmp_path)
    assert (advice.part_seconds, advice.seconds) == (None, None)
    assert set(advice.exits_by_part) == {5}
    assert sum(advice.ranges[0].parts) == 5 * PARTS


def zst(text: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").compress(text)
    return packed


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zst])
def test_a_packed_file_that_ends_too_early_is_judged_up_to_there(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """So much of it as the unpacked lines before the cut, and not the last one, which is none."""
    tape = Tape()
    for number in range(20_000):
        tape.out(0x70, number * 7919 % 251)
    text = "".join(f"{line}\n" for line in tape.lines).encode()
    whole = pack(text)
    path = tmp_path / "t"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    recording = read(path)
    assert recording.reader.is_cut
    assert 1_000 < recording.lines < len(tape.lines)
    path.write_bytes(whole)
    assert not read(path).reader.is_cut


def test_standard_input_that_ends_at_once_holds_no_access() -> None:
    """It is not waited for: the shell has opened both of its ends."""
    reading, writing = os.pipe()
    os.close(writing)
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        with pytest.raises(
            BadInput, match=r"expected at least one line with an access .*, found none"
        ):
            read(Path("-"))
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)
