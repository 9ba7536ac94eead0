"""Work that one write of a register starts is done in turns, each of a bounded amount."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from coalesced.devices.bus.region import Region
from coalesced.devices.e1000 import budget
from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx
from coalesced.vmm.clock import Clock
from coalesced.vmm.loop import Loop
from helpers.e1000_bench import (
    DATA,
    DATA_DESCRIPTOR,
    RAM_SIZE,
    RECEIVE_RING,
    SIMPLE,
    Bench,
    context,
    frame_of,
)


def turns_until(bench: Bench, done: Callable[[], bool], most: int = 200) -> int:
    """Step the card until `done()`: the turns it took; each must do a bounded amount of work."""
    for turn in range(1, most):
        if done():
            return turn
        before = bench.dma.device_accesses
        bench.clock.step()
        assert bench.dma.device_accesses - before <= 2 * budget.TURN // budget.ACCESS
    raise AssertionError(f"the card is not done after {most} turns")


@pytest.mark.slow
def test_a_ring_of_the_greatest_length() -> None:
    """65,528 descriptors of nothing, outside RAM."""
    bench = Bench()
    bench.send_ring(0)
    bench.write(reg.TDBAL, RAM_SIZE)
    bench.write(reg.TDLEN, 0xFFFFFFFF)
    bench.write(reg.TDT, 0xFFFF)
    turns = turns_until(bench, lambda: bool(bench.card.registers[reg.ICR] & reg.INT_TXQE))
    assert turns >= 65528 * budget.DESCRIPTOR // budget.TURN
    assert bench.read(reg.TDH) == 0
    assert bench.wire.take() == []


def test_one_packet_of_more_segments_than_a_turn_sends() -> None:
    """The card continues in the middle of a descriptor, with the same result."""
    bench = Bench()
    bench.send_ring(8)
    bench.ram.write(DATA, bytes(at * 7 & 0xFF for at in range(0x8000)))
    context(bench, 0, 54, 3)
    bench.descriptor(1, DATA, DATA_DESCRIPTOR | sums.TSE | SIMPLE | 0x8000)
    bench.write(reg.TDT, 2)
    assert bench.card.registers[reg.TDH] == 1
    assert not bench.status(1) & tx.DD
    assert not bench.card.registers[reg.ICR] & reg.INT_TXQE
    turns = turns_until(bench, lambda: bench.card.registers[reg.TDH] == 2)
    sent = bench.wire.take()
    whole = (0x8000 - 54) // 3
    assert [len(frame) for frame in sent] == [57] * whole + [54 + (0x8000 - 54) % 3]
    assert b"".join(frame[54:] for frame in sent) == bench.ram.read(DATA + 54, 0x8000 - 54)
    assert turns >= whole * budget.FRAME // budget.TURN
    assert bench.status(1) & tx.DD
    assert bench.read(reg.ICR) & reg.INT_TXQE


@pytest.mark.slow
def test_a_guest_that_looks_sees_the_card_go_on() -> None:
    """Also where the clock stands still."""
    bench = Bench()
    bench.send_ring(64)
    context(bench, 0, 0, 1)
    for index in range(1, 8):
        bench.descriptor(index, DATA, DATA_DESCRIPTOR | sums.TSE | 4096)
    bench.write(reg.TDT, 8)
    heads = [bench.read(reg.TDH)]
    while heads[-1] < 8:
        assert len(heads) < 100
        heads.append(bench.read(reg.TDH))
    assert len(bench.wire.take()) == 7 * 4096
    assert len(heads) > 2


@pytest.mark.slow
def test_the_machine_has_its_turn_before_the_card_goes_on() -> None:
    """In real time: what is due within a turn is not carried out in it."""
    bench = Bench()
    loop = Loop()
    assert bench.card.bus is not None
    bench.card.bus.clock = Clock(loop)
    bench.send_ring(64)
    context(bench, 0, 0, 1)
    for index in range(1, 6):
        bench.descriptor(index, DATA, DATA_DESCRIPTOR | sums.TSE | 4096)
    bench.write(reg.TDT, 6)
    registers = bench.card.registers
    heads = [registers[reg.TDH]]
    while heads[-1] < 6:
        loop.wait(loop.timeout())
        loop.run_timers()
        heads.append(registers[reg.TDH])
    assert sorted(set(heads)) == [1, 2, 3, 4, 5, 6]
    loop.close()


@pytest.mark.slow
def test_a_tail_that_is_never_met_ends_where_it_began_after_any_number_of_turns() -> None:
    bench = Bench()
    bench.send_ring(8)
    context(bench, 0, 0, 1)
    for index in range(1, 8):
        bench.descriptor(index, DATA, DATA_DESCRIPTOR | sums.TSE | 4096)
    bench.write(reg.TDT, 100)
    turns_until(bench, lambda: bool(bench.card.registers[reg.ICR] & reg.INT_TXQE))
    assert bench.card.registers[reg.TDH] == 0
    assert len(bench.wire.take()) == 7 * 4096


def slow_device(bench: Bench) -> int:
    """Map a device that DMA has to access piece by piece; where it begins."""
    device = Region("slow", 0x20000, lambda _at, _size: 0x5A, lambda _at, _size, _value: None)
    bench.space.map(device, 0xD000_0000)
    return 0xD000_0000


@pytest.mark.slow
def test_buffers_in_a_device_are_read_a_turn_at_a_time() -> None:
    bench = Bench()
    device = slow_device(bench)
    bench.send_ring(64)
    for index in range(40):
        bench.descriptor(index, device, SIMPLE | 0xFFFF)
    bench.write(reg.TDT, 40)
    assert bench.dma.device_accesses <= 2 * budget.TURN // budget.ACCESS
    turns = turns_until(bench, lambda: bench.card.registers[reg.TDH] == 40)
    assert turns >= 40 * 8192 * budget.ACCESS // (2 * budget.TURN)
    assert [len(frame) for frame in bench.wire.take()] == [0xFFFF] * 40


@pytest.mark.slow
def test_buffers_in_a_device_are_written_a_turn_at_a_time() -> None:
    """Frames that wait meanwhile come in afterwards."""
    bench = Bench()
    device = slow_device(bench)
    bench.receive_ring(200, rctl=reg.RCTL_UPE | reg.RCTL_SBP | 1 << 16 | reg.RCTL_BSEX)
    for index in range(200):
        bench.ram.write(RECEIVE_RING + 16 * index, struct.pack("<QQ", device, 0))
    waiting = [frame_of(16000)] * 100
    del waiting[: bench.card.receive(waiting)]
    assert waiting
    assert not bench.card.can_receive()
    assert bench.dma.device_accesses <= 2 * budget.TURN // budget.ACCESS
    while waiting:
        bench.clock.step()
        assert bench.wire.asked
        del waiting[: bench.card.receive(waiting)]
    assert bench.read(reg.RDH) == 100


@pytest.mark.slow
def test_a_receive_ring_of_65528_descriptors_without_a_buffer() -> None:
    """One frame goes around all of it, in turns, and is an overrun at the end."""
    bench = Bench()
    bench.receive_ring(8, rctl=reg.RCTL_UPE)
    for register, value in (
        (reg.RDBAL, RAM_SIZE),
        (reg.RDLEN, 0xFFFFFFFF),
        (reg.RDT, 0xFFFF),
    ):
        bench.write(register, value)
    assert bench.card.receive([frame_of(60)] * 2) == 1
    assert not bench.card.can_receive()
    turns = turns_until(bench, lambda: bool(bench.card.registers[reg.MPC]))
    assert turns >= 65528 * budget.DESCRIPTOR // budget.TURN
    assert bench.card.can_receive()
    assert bench.read(reg.ICR) == reg.INT_RXO
