"""qtest commands become operations of the guest."""

from __future__ import annotations

import numpy as np
import pytest

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools.guests.qtest import (
    DATA_AT,
    DRAIN,
    MAILBOX,
    MAILBOX_SIZE,
    OP_NOTHING,
    OP_READ_MEMORY,
    OP_WRITE_MEMORY,
    OPS_AT,
    OPS_MAX,
)
from coalesced.tools.qtest.batch import Batch, Splitter
from coalesced.tools.qtest.protocol import BlockRead, BlockWrite, Control, parse
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.direct import LocalMemory

RAM: list[GuestMemory] = [LocalMemory(0, 0xA0000), LocalMemory(0x100000, 0x100000)]


def steps(line: str, queues: bool = False) -> list[tuple[int, int, int, int]]:
    """(kind, size, address, value) of what a command is carried out as."""
    return of(Splitter(RAM, queues), line)


def of(splitter: Splitter, line: str) -> list[tuple[int, int, int, int]]:
    command = parse(line.encode())
    assert not isinstance(command, bytes)
    return [step[:4] for step in splitter.work(command).steps]  # type: ignore[arg-type]


def test_an_access_is_one_operation() -> None:
    assert steps("writeq 0x9fffd 0x1122") == [(OP_STORE, 8, 0x9FFFD, 0x1122)]
    assert steps("inl 0xfffc") == [(OP_IN, 4, 0xFFFC, 0)]


def test_ram_is_looked_for_when_a_batch_begins() -> None:
    ram = list(RAM)
    splitter = Splitter(ram, queues=False)
    ram.append(LocalMemory(0xC0000, 0x4000))
    assert [kind for kind, *_ in of(splitter, "read 0xc0000 0x4")] == [OP_LOAD]
    Batch(splitter)
    assert [kind for kind, *_ in of(splitter, "read 0xc0000 0x4")] == [OP_READ_MEMORY]


@pytest.mark.parametrize(
    ("line", "moves"),
    [
        ("outb 0xcff 0x1", True),
        ("outw 0xcfb 0x1", True),
        ("outl 0xcf9 0x1", True),
        ("outl 0xcf8 0x1", False),
        ("outb 0xd00 0x1", False),
        ("inl 0xcfc", False),
        ("writel 0xcfc 0x1", False),
        ("write 0xcfc 0x1 0x00", False),
    ],
)
def test_ram_moves_by_a_write_of_the_configuration_alone(line: str, moves: bool) -> None:
    command = parse(line.encode())
    assert not isinstance(command, bytes | Control)
    assert Splitter.may_move_ram(command) is moves


def test_behind_the_last_port_there_is_nothing() -> None:
    assert steps("outl 0xfffd 0x44332211") == [
        (OP_OUT, 1, 0xFFFD, 0x11),
        (OP_OUT, 2, 0xFFFE, 0x3322),
        (OP_NOTHING, 1, 0, 0),
    ]


def test_memory_goes_on_at_its_beginning() -> None:
    assert steps("writel 0xfffffffffffffffe 0x44332211") == [
        (OP_STORE, 2, (1 << 64) - 2, 0x2211),
        (OP_STORE, 2, 0, 0x4433),
    ]


def test_blocks_are_cut_at_edges_and_into_aligned_pieces() -> None:
    assert steps("read 0x9fffe 0x9") == [
        (OP_READ_MEMORY, 2, 0x9FFFE, 0),
        (OP_LOAD, 4, 0xA0000, 0),
        (OP_LOAD, 2, 0xA0004, 0),
        (OP_LOAD, 1, 0xA0006, 0),
    ]
    assert steps("write 0xa0001 6 0x112233445566") == [
        (OP_STORE, 1, 0xA0001, 0x11),
        (OP_STORE, 2, 0xA0002, 0x3322),
        (OP_STORE, 2, 0xA0004, 0x5544),
        (OP_STORE, 1, 0xA0006, 0x66),
    ]
    assert steps("write 0x1fffff 2 0x1122") == [
        (OP_WRITE_MEMORY, 1, 0x1FFFFF, 0),
        (OP_STORE, 1, 0x200000, 0x22),
    ]


def test_a_drain_goes_before_memory_once_something_may_be_queued() -> None:
    splitter = Splitter(RAM, queues=True)
    drain = (OP_STORE, 4, DRAIN, 0)
    assert of(splitter, "readb 0")[0] == (OP_LOAD, 1, 0, 0)
    of(splitter, "writeb 0xa0000 1")
    assert of(splitter, "readb 0") == [drain, (OP_LOAD, 1, 0, 0)]
    assert of(splitter, "writeb 1 1") == [(OP_STORE, 1, 1, 1)]
    of(splitter, "outb 0x70 1")
    assert of(splitter, "read 0 2") == [drain, (OP_READ_MEMORY, 2, 0, 0)]
    of(splitter, "writeb 0xa0000 1")
    of(splitter, "inb 0x80")  # an exit: nothing is queued behind it
    assert of(splitter, "readb 0") == [(OP_LOAD, 1, 0, 0)]


def test_nothing_reaches_the_mailbox() -> None:
    for address in (MAILBOX - 1, MAILBOX, DRAIN, DRAIN + 4):
        assert steps(f"writew {address:#x} 1") == [(OP_NOTHING, 2, 0, 0)]
    kinds = [kind for kind, _, _, _ in steps(f"memset {MAILBOX - 1:#x} 3 1")]
    assert kinds == [OP_STORE, OP_NOTHING]


def test_a_long_command_takes_several_batches() -> None:
    splitter, mailbox = Splitter(RAM, False), LocalMemory(MAILBOX, MAILBOX_SIZE)
    size = 4 * (OPS_MAX + 2)
    work = splitter.work(BlockRead(0xA0000, size, lambda data: b"%d" % len(data)))
    first, second = Batch(splitter), Batch(splitter)
    assert not first.add(work)
    assert first.size == OPS_MAX
    assert first.replies(mailbox, []) == []
    assert second.add(work)
    assert second.size == 2
    assert second.replies(mailbox, []) == [b"%d" % size]


def test_replies_are_in_order_and_lines_before_theirs() -> None:
    splitter, mailbox = Splitter(RAM, False), LocalMemory(MAILBOX, MAILBOX_SIZE)
    batch = Batch(splitter)
    for line in (b"writeb 0xa0000 1", b"readb 0xa0000", b"readb 0", b"inb 0x80"):
        command = parse(line)
        assert not isinstance(command, bytes)
        batch.add(splitter.work(command))  # type: ignore[arg-type]
        batch.add_reply(b"between")
    batch.put(mailbox, 0)
    ops = np.frombuffer(mailbox.read(OPS_AT - MAILBOX, 4 * OP.itemsize), dtype=OP).copy()
    ops["value"] = [1, 2, 3, 4]
    mailbox.write(OPS_AT - MAILBOX, ops.tobytes())
    # Three accesses of devices: the third is the port's, since memory is none.
    assert batch.replies(mailbox, [(2, b"second"), (3, b"third"), (9, b"late")]) == [
        b"OK",
        b"between",
        b"second",
        b"OK 0x0000000000000002",
        b"between",
        b"OK 0x0000000000000003",
        b"between",
        b"third",
        b"OK 0x0004",
        b"between",
        b"late",
    ]


def test_the_bytes_of_memory_go_along() -> None:
    splitter, mailbox = Splitter(RAM, False), LocalMemory(MAILBOX, MAILBOX_SIZE)
    batch = Batch(splitter)
    batch.add(splitter.work(BlockWrite(0, b"abc")))
    batch.add(splitter.work(BlockRead(0, 4, bytes)))
    batch.put(mailbox, 0)
    assert mailbox.read(DATA_AT - MAILBOX, 7) == b"abc\0\0\0\0"
    mailbox.write(DATA_AT - MAILBOX + 3, b"wxyz")
    assert batch.replies(mailbox, []) == [b"OK", b"wxyz"]
