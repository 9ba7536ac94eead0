"""Accesses that cross a page, out of the parts that a recording has of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coalesced.hv.abi import OP, OP_LOAD, OP_STORE
from coalesced.tools.traces import trace
from coalesced.tools.traces.crossings import instructions

Row = tuple[int, int, int, int]
KVM = (
    "qemu-7 [000] ..... 1.000001: kvm_mmio: mmio write len 1 gpa 0xfebc0fff val 0x44\n"
    "qemu-7 [000] ..... 1.000002: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)\n"
    "qemu-7 [000] ..... 1.000003: kvm_mmio: mmio write len 3 gpa 0xfebc1000 val 0x112233\n"
    "qemu-7 [000] ..... 1.000004: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)\n"
    "qemu-7 [000] ..... 1.000005: kvm_mmio: mmio write len 2 gpa 0xfebc0000 val 0x5\n"
)


def made(rows: list[Row]) -> tuple[list[Row], list[int], int]:
    ops, begin, joined = instructions(np.array(rows, OP))
    return ops.tolist(), begin.tolist(), joined


@pytest.mark.parametrize("kind", [OP_LOAD, OP_STORE])
@pytest.mark.parametrize(
    ("room", "rest"), [(1, 3), (3, 1), (1, 7), (2, 6), (3, 5), (5, 3), (6, 2), (7, 1)]
)
def test_the_parts_of_an_access_are_one_again(kind: int, room: int, rest: int) -> None:
    value = 0x8877665544332211 & (1 << 8 * (room + rest)) - 1
    before, address = (OP_STORE, 1, 1, 9), 0xA1000 - room
    low = (kind, room, address, value & (1 << 8 * room) - 1)
    high = (kind, rest, 0xA1000, value >> 8 * room)
    whole = (kind, room + rest, address, value)
    assert made([before, low, high, before]) == ([before, whole, before], [0, 1, 3], 1)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_parts_that_are_instructions_stay_as_they_are(size: int) -> None:
    parts = [(OP_STORE, size, 0xA1000 - size, 1), (OP_STORE, size, 0xA1000, 2)]
    assert made(parts) == (parts, [0, 1], 0)


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (3, [(2, 0xA0000, 0x2211), (1, 0xA0002, 0x33)]),
        (5, [(4, 0xA0000, 0x44332211), (1, 0xA0004, 0x55)]),
        (6, [(4, 0xA0000, 0x44332211), (2, 0xA0004, 0x6655)]),
        (7, [(4, 0xA0000, 0x44332211), (2, 0xA0004, 0x6655), (1, 0xA0006, 0x77)]),
    ],
)
def test_a_part_whose_other_one_went_to_ram_is_several_accesses(
    size: int, pieces: list[tuple[int, int, int]]
) -> None:
    value = 0x77665544332211 & (1 << 8 * size) - 1
    expected = [(OP_STORE, *piece) for piece in pieces]
    assert made([(OP_STORE, size, 0xA0000, value)]) == (expected, [0] * len(pieces), 0)


@pytest.mark.parametrize(
    "other",
    [
        (OP_LOAD, 1, 0xA1000, 0),
        (OP_STORE, 1, 0xA1001, 0),
        (OP_STORE, 2, 0xA1000, 0),
    ],
    ids=["another kind", "another place", "no size of an instruction"],
)
def test_what_is_no_other_part_is_left_alone(other: Row) -> None:
    ops, begin, joined = made([(OP_STORE, 3, 0xA0FFD, 0x332211), other])
    assert ops == [(OP_STORE, 2, 0xA0FFD, 0x2211), (OP_STORE, 1, 0xA0FFF, 0x33), other]
    assert (begin, joined) == ([0, 0, 1], 0)


def test_a_recording_of_kvm_keeps_lines_and_counts(tmp_path: Path) -> None:
    (tmp_path / "kvm").write_text(KVM)
    found = trace.read(tmp_path / "kvm")
    assert found.ops.tolist() == [
        (OP_STORE, 4, 0xFEBC0FFF, 0x11223344),
        (OP_STORE, 2, 0xFEBC0000, 5),
    ]
    assert found.lines.tolist() == [1, 5]
    assert (found.counted.lines, found.counted.joined) == (3, 1)
