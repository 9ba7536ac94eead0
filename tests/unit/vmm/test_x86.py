"""Machine code of recorded guests: bytes, data and results; what it does, KVM's tests say."""

from __future__ import annotations

import numpy as np
import pytest

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from coalesced.hv.errors import GuestError
from coalesced.vmm.accel.recording import MemoryAccess, Recording
from coalesced.vmm.accel.x86 import Program, assemble

Operation = tuple[int, int, int, int]


def recorded(*ops: Operation) -> Recording:
    return Recording([np.array(list(ops), dtype=OP)])


def program(*ops: Operation) -> Program:
    return assemble(recorded(*ops))


def code(made: Program, length: int) -> bytes:
    """The instructions behind the one that points at the results."""
    assert made.code[:1] == b"\xbf"
    return made.code[5 : 5 + length]


HALT = b"\xf4\xeb\xfd"


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ((OP_STORE, 1, 0xA0123, 0x77), "c605 23010a00 77"),
        ((OP_STORE, 2, 0xA0123, 0x7788), "66c705 23010a00 8877"),
        ((OP_STORE, 4, 0xFFFFFFFC, 0x55667788), "c705 fcffffff 88776655"),
        ((OP_LOAD, 1, 0xA0123, 0x12), "a0 23010a00 aa"),
        ((OP_LOAD, 2, 0xA0123, 0x12), "66a1 23010a00 66ab"),
        ((OP_LOAD, 4, 0xA0123, 0x12), "a1 23010a00 ab"),
        ((OP_LOAD, 8, 0xA0123, 0x12), "0f6f0d 23010a00 0f7f0f 83c708"),
        ((OP_OUT, 1, 0x3C0, 0x20), "66ba c003 b0 20 ee"),
        ((OP_OUT, 2, 0x3C4, 0x0F02), "66ba c403 66b8 020f 66ef"),
        ((OP_OUT, 4, 0xCF8, 0x80000000), "66ba f80c b8 00000080 ef"),
        ((OP_IN, 1, 0x3DA, 0), "66ba da03 ec aa"),
        ((OP_IN, 2, 0x1CE, 0), "66ba ce01 66ed 66ab"),
        ((OP_IN, 4, 0xCFC, 0), "66ba fc0c ed ab"),
    ],
)
def test_instructions(op: Operation, expected: str) -> None:
    wanted = bytes.fromhex(expected) + HALT
    assert code(program(op), len(wanted)) == wanted


def test_a_store_of_8_bytes_is_one_movq() -> None:
    """Loaded from the data, and once only for stores of the same value."""
    value = 0x8877665544332211
    made = program((OP_STORE, 8, 0xA0000, value), (OP_STORE, 8, 0xA0010, value))
    base = 0x10000000
    image = made.at(base)
    assert image[5:8] == b"\x0f\x6f\x05"
    place = int.from_bytes(image[8:12], "little") - base
    assert image[place : place + 8] == value.to_bytes(8, "little")
    assert image[12:26] == bytes.fromhex("0f7f05 00000a00 0f7f05 10000a00")
    assert image[26:29] == HALT


def test_a_port_and_a_value_that_stay_are_not_loaded_again() -> None:
    made = program((OP_OUT, 1, 0x3C9, 5), (OP_OUT, 1, 0x3C9, 5), (OP_OUT, 1, 0x3C9, 6))
    assert code(made, 12) == bytes.fromhex("66bac903 b005 ee ee b006 ee f4")


def test_results_lie_one_behind_the_other() -> None:
    ops = [
        (OP_LOAD, 1, 0xA0000, 0x11),
        (OP_STORE, 1, 0xA0000, 0xFF),
        (OP_IN, 2, 0x3C4, 0x2233),
        (OP_LOAD, 8, 0xA0000, 0x0102030405060708),
        (OP_LOAD, 4, 0xA0000, 0x44556677),
    ]
    first, last = np.array(ops[:3], dtype=OP), np.array(ops[3:], dtype=OP)
    made = assemble(Recording([first, MemoryAccess(False, 0x1000, b"abc"), last]))
    assert made.results == bytes.fromhex("11 3322") + b"abc" + bytes.fromhex(
        "0807060504030201 77665544"
    )
    assert made.places.tolist() == [0, 1, 6, 14]
    values = [value for kind, _, _, value in ops if kind in (OP_LOAD, OP_IN)]
    assert made.loaded(made.results).tolist() == values
    assert made.loaded(bytes(len(made.results))).tolist() == [0] * 4
    assert made.loads["value"].tolist() == values


def test_a_long_store_is_one_instruction_and_a_repeated_one_a_loop() -> None:
    filled = [(OP_STORE, 1, 0xA0000 + at, 7) for at in range(10_000)]
    table = [(OP_STORE, 2, 0xA0000 + 2 * at, at) for at in range(10_000)]
    again = [(OP_STORE, 1, 0xA0000, at % 3) for at in range(10_000)]
    assert program(*filled).results_at < 64
    assert program(*table).results_at < 64 + 20_000
    assert program(*again).results_at < 1024


def test_what_is_too_much_at_once_is_assembled_in_parts() -> None:
    ops = [(OP_LOAD, 1, 0xA0000 + at, at % 251) for at in range(100)]
    whole = program(*ops)
    parts = assemble(recorded(*ops), part=7)
    assert (parts.code, parts.results) == (whole.code, whole.results)
    assert parts.loaded(parts.results).tolist() == [at % 251 for at in range(100)]


def test_whole_pages() -> None:
    assert program((OP_STORE, 1, 0, 0)).size == PAGE_SIZE
    loads = [(OP_LOAD, 8, 0, 0)] * 1000
    made = program(*loads)
    assert made.size % PAGE_SIZE == 0
    assert made.size >= made.results_at + 8000


def test_nothing_halts() -> None:
    assert code(assemble(Recording()), 3) == HALT
    assert code(assemble(Recording([np.zeros(0, OP), MemoryAccess(True, 0, b"")])), 3) == HALT


@pytest.mark.parametrize(
    ("op", "what"),
    [
        ((OP_STORE, 1, 1 << 32, 0), "store of 1 bytes at 0x100000000"),
        ((OP_LOAD, 8, 0xFFFFFFF9, 0), "load of 8 bytes at 0xfffffff9"),
        ((OP_STORE, 4, (1 << 64) - 4, 0), "store of 4 bytes at 0xfffffffffffffffc"),
    ],
)
def test_4_gib_are_out_of_reach(op: Operation, what: str) -> None:
    with pytest.raises(GuestError) as raised:
        program((OP_STORE, 1, 0xFFFFFFFF, 0), op)
    assert str(raised.value) == (
        f"{what}: expected an address below 4 GiB: --accel kvm runs guests in 32-bit protected mode"
    )


@pytest.mark.parametrize("write", [False, True])
def test_a_copy_above_4_gib_is_out_of_reach(write: bool) -> None:
    what = "write" if write else "read"
    with pytest.raises(GuestError, match=f"{what} of 2 bytes at 0xffffffff: expected an address"):
        assemble(Recording([MemoryAccess(write, 0xFFFFFFFF, b"ab")]))
