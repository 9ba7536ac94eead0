"""Wrong or hostile use of an e1000 by a guest: bounded work, and no exception.

The classes are those of QEMU's vulnerabilities in this device.
"""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import phy
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx
from helpers.e1000_bench import (
    BAR,
    BUFFER_STEP,
    BUFFERS,
    DATA,
    DATA_DESCRIPTOR,
    RAM_SIZE,
    RECEIVE_RING,
    SEND_RING,
    SIMPLE,
    Bench,
    context,
    frame_of,
)

LOOPBACK = phy.MDIC_WRITE | phy.ADDRESS << phy.MDIC_PHY_SHIFT | phy.BMCR_LOOPBACK


def sent_by(bench: Bench, *lengths: int) -> list[bytes]:
    """The segments of data of these lengths, after a context at 0."""
    for index, length in enumerate(lengths, start=1):
        last = SIMPLE if index == len(lengths) else 0
        lower = DATA_DESCRIPTOR | sums.TSE | last | length
        bench.descriptor(index, DATA, lower, (sums.IXSM | sums.TXSM) << 8)
    bench.write(reg.TDT, 1 + len(lengths))
    assert bench.read(reg.TDH) == 1 + len(lengths)
    return bench.wire.take()


def test_long_frames_beyond_the_receive_buffer() -> None:
    """CVE-2012-6075: a frame longer than allowed is dropped, not written past its buffer."""
    bench = Bench()
    bench.receive_ring(rctl=reg.RCTL_UPE)
    for length in (1523, 16384, 16385, 65535, 69632):
        assert bench.card.receive([frame_of(length)]) == 1
    assert bench.read(reg.ROC) == 5
    assert bench.read(reg.RDH) == 0
    assert bench.ram.read(BUFFERS, 8 * BUFFER_STEP) == bytes(8 * BUFFER_STEP)


def test_a_frame_of_64_kib_stops_at_its_ring() -> None:
    """CVE-2012-6075, with SBP: all is taken, and nothing beyond the descriptors is written."""
    bench = Bench()
    bench.receive_ring(rctl=reg.RCTL_SBP | reg.RCTL_UPE)
    bench.ram.write(BUFFERS + 8 * BUFFER_STEP, b"\x5a" * 64)
    assert bench.card.receive([frame_of(65535)]) == 1
    assert bench.read(reg.MPC) == 1
    assert bench.read(reg.ICR) == reg.INT_RXO
    assert bench.ram.read(BUFFERS + 8 * BUFFER_STEP, 64) == b"\x5a" * 64


def test_no_progress_in_segmentation() -> None:
    """CVE-2015-6815: no segment size, no header, a frame that is full: all end."""
    for header, mss in ((54, 0), (0, 0), (0, 1), (255, 0), (255, 0xFFFF)):
        bench = Bench()
        bench.send_ring()
        context(bench, 0, header, mss)
        assert len(sent_by(bench, 1000, 0, 1000)) <= 2001


def test_segments_of_one_byte_are_all_sent() -> None:
    bench = Bench()
    bench.send_ring()
    context(bench, 0, 54, 1, 1000)
    segments = sent_by(bench, 1054)
    assert [len(segment) for segment in segments] == [*[55] * 1000, 54]


def test_a_header_longer_than_the_packet() -> None:
    """CVE-2016-1981's sibling: half a header is not sent."""
    bench = Bench()
    bench.send_ring()
    context(bench, 0, 200, 100)
    assert sent_by(bench, 30, 30) == []
    assert bench.read(reg.TPT) == 0
    bench.descriptor(3, DATA, SIMPLE | 60)
    bench.write(reg.TDT, 4)
    assert len(bench.wire.take()[0]) == 60  # nothing is left of it


@pytest.mark.parametrize(
    ("count", "head", "tail"),
    [(8, 0, 8), (8, 3, 100), (8, 100, 3), (8, 8, 0), (0, 0, 5), (0, 7, 0)],
)
@pytest.mark.parametrize("plain", [False, True])
def test_endless_rings_end(count: int, head: int, tail: int, plain: bool) -> None:
    """CVE-2016-1981: a tail that is never met ends where it began, a head outside at once."""
    bench = Bench(plain)
    bench.send_ring(count, head)
    for index in range(128):
        bench.descriptor(index, DATA, SIMPLE | 60)
    bench.write(reg.TDT, tail)
    assert len(bench.wire.take()) == (count if head < count else 1)
    assert bench.read(reg.TDH) == (head if head < count else 0)
    bench.receive_ring(count)
    bench.write(reg.RDH, head)
    bench.write(reg.RDT, tail)
    for _ in range(20):
        bench.card.receive([frame_of(60)] * 20)


def test_null_buffers_all_around_the_receive_ring() -> None:
    """CVE-2016-1981: descriptors without a buffer are passed over once, not for ever."""
    bench = Bench()
    bench.receive_ring(8)
    for index in range(8):
        bench.ram.write(RECEIVE_RING + 16 * index, bytes(16))
    assert bench.card.receive([frame_of(60)]) == 1
    assert bench.read(reg.MPC) == 1
    assert all(bench.ram.read(RECEIVE_RING + 16 * index + 12, 1) == b"\1" for index in range(8))


@pytest.mark.parametrize("plain", [False, True])
def test_dma_aimed_at_the_card_itself(plain: bool) -> None:
    """CVE-2021-20257 and the later ones of re-entrancy: its registers are not there for it."""
    bench = Bench(plain)
    bench.receive_ring(8, rctl=reg.RCTL_UPE)
    bench.send_ring()
    bench.write(reg.ICS, reg.INT_LSC)
    bench.write(reg.MDIC, LOOPBACK)
    for index, register in enumerate(
        (reg.TDT, reg.TCTL, reg.RCTL, reg.ICR, reg.ICS, reg.RDT, reg.RA)
    ):
        bench.ram.write(RECEIVE_RING + 16 * index, struct.pack("<QQ", BAR + register, 0))
        bench.descriptor(index, BAR + reg.ICR if index % 2 else DATA, SIMPLE | 60)
    bench.ram.write(DATA, b"\x02\0\0\0\0\1" + b"\xff" * 54)
    before = {at: bench.card.registers[at] for at in (reg.TCTL, reg.RCTL, reg.IMS, reg.RA, reg.RDT)}
    bench.write(reg.TDT, 7)
    assert bench.read(reg.RDH) == 7
    assert {at: bench.card.registers[at] for at in before} == before
    assert bench.card.registers[reg.ICR] & reg.INT_LSC
    bench.write(reg.MDIC, LOOPBACK & ~phy.BMCR_LOOPBACK)
    bench.write(reg.TDBAL, BAR + reg.RA)  # the ring itself
    bench.write(reg.RDBAL, BAR + reg.RA)
    bench.write(reg.RDH, 0)
    bench.write(reg.RDT, 7)
    bench.write(reg.TDH, 0)
    bench.write(reg.TDT, 5)
    assert bench.wire.take() == []
    assert bench.card.receive([frame_of(60)] * 3) == 3
    assert {at: bench.card.registers[at] for at in before} == before


def test_a_ring_that_sends_to_itself() -> None:
    """CVE-2021-20257: a frame in loopback that rewrites the ring it came from, all around."""
    bench = Bench()
    bench.receive_ring(8, rctl=reg.RCTL_UPE)
    bench.send_ring(8)
    bench.write(reg.MDIC, LOOPBACK)
    for index in range(8):
        bench.ram.write(RECEIVE_RING + 16 * index, struct.pack("<QQ", SEND_RING, 0))
        bench.descriptor(index, SEND_RING, SIMPLE | 128)
    bench.write(reg.TDT, 8)
    assert bench.read(reg.TDH) == 0
    assert bench.read(reg.TPT) <= 8


@pytest.mark.parametrize("length", [1, 2, 5, 6, 11, 12, 13, 14, 15, 17, 59])
def test_runt_frames_in_loopback(length: int) -> None:
    """CVE-2021-3416 and CVE-2025-12464: they are filled up to 60 bytes, not read past their end."""
    bench = Bench()
    bench.receive_ring(rctl=reg.RCTL_UPE | reg.RCTL_VFE | reg.RCTL_MPE)
    bench.send_ring()
    bench.write(reg.CTRL, reg.CTRL_VME)
    bench.write(reg.MDIC, LOOPBACK)
    data = b"\x02" + bytes(range(1, length))
    bench.ram.write(DATA, data + b"\xee" * 60)
    bench.descriptor(0, DATA, SIMPLE | length)
    bench.write(reg.TDT, 1)
    assert bench.received(0) == (0x07, 64, data + bytes(60 - length))
    assert bench.wire.take() == []
    bench.descriptor(1, DATA, SIMPLE | tx.VLE | length, 0x1234_0000)
    bench.write(reg.TDT, 2)
    assert bench.read(reg.TPT) == 2


def test_a_frame_of_nothing() -> None:
    bench = Bench()
    bench.send_ring()
    bench.descriptor(0, DATA, SIMPLE)
    bench.write(reg.TDT, 1)
    assert bench.wire.take() == [b""]
    assert bench.read(reg.TOTL) == 4


def test_frames_that_never_end() -> None:
    """Data added to a frame of 64 KiB begins a new one."""
    bench = Bench()
    bench.send_ring(64)
    for index in range(40):
        bench.descriptor(index, DATA, DATA_DESCRIPTOR | 0xFFFF)
    bench.descriptor(40, DATA, SIMPLE | DATA_DESCRIPTOR | 100)
    bench.write(reg.TDT, 41)
    (frame,) = bench.wire.take()
    assert len(frame) < 0x10000


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_rings_of_random_bytes(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench()
    bench.ram.write(0, rng.randbytes(RAM_SIZE))
    bench.receive_ring(rctl=rng.randrange(1 << 27))
    bench.ram.write(RECEIVE_RING, rng.randbytes(128))
    if rng.random() < 0.5:
        bench.write(reg.MDIC, LOOPBACK)
    for _ in range(3):
        bench.send_ring(8 * rng.randrange(4), rng.randrange(40))
        bench.ram.write(SEND_RING, rng.randbytes(512))
        bench.write(reg.TDT, rng.randrange(40))
        bench.card.receive([frame_of(rng.randrange(1, 20000)) for _ in range(5)])
