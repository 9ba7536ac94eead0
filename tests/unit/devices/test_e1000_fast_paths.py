"""The e1000's fast paths leave frames, memory, registers and causes as its plain ones do."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx
from helpers.e1000_bench import (
    BUFFERS,
    DATA,
    RAM_SIZE,
    RECEIVE_RING,
    SEND_RING,
    Bench,
    frame_of,
)

COUNT = 16

flags = st.builds(
    lambda *bits: sum(bits),
    *(st.sampled_from((0, 0, bit)) for bit in (tx.RS, tx.RPS, tx.IDE, tx.VLE)),
    st.sampled_from((tx.EOP, tx.EOP, tx.EOP, 0)),
    st.sampled_from(
        (
            0,
            0,
            sums.TSE,  # means something else to a legacy descriptor
            tx.DTYP_DATA,
            tx.DEXT,
            tx.DEXT | tx.DTYP_DATA,
            tx.DEXT | tx.DTYP_DATA,
            tx.DEXT | tx.DTYP_DATA | sums.TSE,
        )
    ),
)
addresses = st.one_of(
    st.integers(DATA, DATA + 0x8000),
    st.integers(SEND_RING - 100, SEND_RING + 16 * COUNT + 20),
    st.sampled_from((0, RAM_SIZE - 60, RAM_SIZE, (1 << 64) - 1, 0xE000_5400)),
)
lengths = st.one_of(st.sampled_from((0, 1, 11, 12, 60, 64, 1514, 65535)), st.integers(0, 2000))
descriptors = st.tuples(
    addresses,
    st.builds(lambda some, length: some | length, flags, lengths),
    st.sampled_from((0, 0xE, 0x100, 0x300, 0x1234_0000, 0xFFFF_FFFF)),
)


def seem_the_same(one: Bench, other: Bench) -> None:
    """Everything that a guest and its network can observe."""
    assert one.wire.take() == other.wire.take()
    assert one.ram.read(0, RAM_SIZE) == other.ram.read(0, RAM_SIZE)
    registers, others = one.card.registers, other.card.registers
    assert all(registers[at] == others[at] for at in registers | others)


def are_the_same(one: Bench, other: Bench) -> None:
    """Also in what is to come."""
    seem_the_same(one, other)
    assert one.card.state() == other.card.state()
    assert one.card.interrupts.transmit_delayed == other.card.interrupts.transmit_delayed


@pytest.mark.slow
@settings(max_examples=80)
@given(
    st.lists(descriptors, min_size=1, max_size=COUNT),
    st.integers(0, COUNT + 1),
    st.integers(0, COUNT + 4),
    st.booleans(),
    st.lists(st.integers(0, 5), max_size=4),
)
def test_transmit(
    ring: list[tuple[int, int, int]], head: int, tail: int, vlan: bool, rooms: list[int]
) -> None:
    """Also with a wire that takes only some of the frames at a time."""
    benches = Bench(), Bench(plain=True)
    for bench in benches:
        bench.ram.write(0, random.Random(1).randbytes(DATA + 0xA000))
        bench.send_ring(COUNT, head)
        bench.write(reg.CTRL, reg.CTRL_VME * vlan)
        bench.write(reg.IMS, 0xFFFFFFFF)
        for index, descriptor in enumerate(ring):
            bench.descriptor((head + index) % COUNT, *descriptor)
        bench.wire.room = rooms[0] if rooms else None
        bench.write(reg.TDT, tail)
    seem_the_same(*benches)
    for room in [*rooms[1:], None]:
        for bench in benches:
            bench.wire.room = room
            bench.card.resume_transmit()
        seem_the_same(*benches)
    are_the_same(*benches)


targets = st.sampled_from(
    (reg.RECEIVE_ADDRESS, b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("020000000001"))
)
frames = st.builds(
    frame_of,
    st.one_of(st.sampled_from((1, 59, 60, 252, 253, 256, 257, 1522, 1523)), st.integers(1, 700)),
    targets,
)
buffers = st.one_of(
    st.integers(0, 15).map(lambda index: BUFFERS + 0x800 * index),
    st.integers(0, 15).map(lambda index: BUFFERS + 0x800 * index),
    st.sampled_from((0, RECEIVE_RING - 60, RECEIVE_RING + 40, RAM_SIZE - 64, RAM_SIZE, 1 << 63)),
)


@pytest.mark.slow
@settings(max_examples=80)
@given(
    st.lists(frames, min_size=1, max_size=12),
    st.lists(buffers, min_size=8, max_size=8),
    st.sampled_from((1, 2, 8)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from(
        (
            reg.RCTL_BAM,
            reg.RCTL_BAM | 3 << reg.RCTL_BSIZE_SHIFT,
            reg.RCTL_UPE | reg.RCTL_MPE | 3 << reg.RCTL_BSIZE_SHIFT | reg.RCTL_SECRC,
            reg.RCTL_LPE | reg.RCTL_BAM | 2 << reg.RCTL_BSIZE_SHIFT | 1 << reg.RCTL_RDMTS_SHIFT,
        )
    ),
    st.booleans(),
)
def test_receive(
    given_frames: list[bytes],
    addresses_: list[int],
    count: int,
    ends: tuple[int, int],
    rctl: int,
    vlan: bool,
) -> None:
    """The same frames are taken at once and one by one."""
    benches = Bench(), Bench(plain=True)
    taken = []
    for bench in benches:
        bench.receive_ring(count, rctl=rctl)
        bench.write(reg.CTRL, reg.CTRL_VME * vlan)
        for index, address in enumerate(addresses_):
            stale = struct.pack("<QQ", address, 0xA5A5_A5A5_A5A5_A5A5)
            bench.ram.write(RECEIVE_RING + 16 * index, stale)
        bench.write(reg.RDH, ends[0])
        bench.write(reg.RDT, ends[1])
        taken.append(bench.card.receive(given_frames))
    assert taken[0] == taken[1]
    are_the_same(*benches)


def test_a_batch_is_sent_as_one() -> None:
    bench = Bench()
    bench.send_ring(256)
    for index in range(255):
        bench.descriptor(index, DATA + 64 * index, tx.EOP | tx.RS | 64)
    bench.write(reg.TDT, 255)
    assert bench.wire.batches == [255]
    assert bench.read(reg.TPT) == 255


def test_a_tail_behind_the_head_takes_two_batches() -> None:
    bench = Bench()
    bench.send_ring(16, 10)
    for index in range(16):
        bench.descriptor(index, DATA + 64 * index, tx.EOP | 64)
    bench.write(reg.TDT, 4)
    assert bench.wire.batches == [6, 4]
    assert bench.read(reg.TDH) == 4
