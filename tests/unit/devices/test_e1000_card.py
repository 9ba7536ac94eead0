"""The e1000 as a machine sees it: its zones, its wire, its interrupt, time and reset.

What its registers and rings do is held against QEMU by the conformance scripts.
"""

from __future__ import annotations

import pytest

from coalesced.devices.bus.pci import COMMAND, VENDOR_ID
from coalesced.devices.e1000 import E1000, eeprom, phy
from coalesced.devices.e1000 import receive as rx
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx
from helpers.e1000_bench import (
    BAR,
    BUFFER_STEP,
    BUFFERS,
    DATA,
    RECEIVE_RING,
    SEND_RING,
    SIMPLE,
    Bench,
    frame_of,
)

MS = 1_000_000
RESTART = phy.MDIC_WRITE | phy.ADDRESS << phy.MDIC_PHY_SHIFT | phy.BMCR_AUTOEN | phy.BMCR_ANRESTART


def test_it_is_an_82540em() -> None:
    card = E1000()
    assert card.config_read(VENDOR_ID, 4) == 0x100E_8086
    assert card.config_read(0x08, 4) == 0x0200_0003
    assert card.config_read(0x2C, 4) == 0x1100_1AF4
    assert card.config_read(0x3D, 1) == 1
    assert {number: bar.region.size for number, bar in card.bars.items()} == {0: 0x20000, 1: 64}


def test_every_register_may_be_queued_but_those_of_the_list() -> None:
    region = E1000().bars[0].region
    queued = {at for first, size in region.coalesced for at in range(first, first + size)}
    excluded = {
        at
        for first in (0x20, 0xC0, 0xC8, 0xD0, 0xD8, 0x400, 0x3818)
        for at in range(first, first + 4)
    }
    assert queued == set(range(0x20000)) - excluded
    assert sum(size for _, size in region.coalesced) == len(queued)
    assert region.flush


@pytest.mark.parametrize("mac", ["525400123456", "000000000000", "ffffffffffff", "0123456789ab"])
def test_its_address_stands_in_the_eeprom_and_in_the_first_filter(mac: str) -> None:
    address = bytes.fromhex(mac)
    words = eeprom.contents(address)
    assert b"".join(word.to_bytes(2, "little") for word in words[:3]) == address
    assert sum(words) & 0xFFFF == 0xBABA
    card = E1000(address)
    assert card.read(reg.RA, 4).to_bytes(4, "little") == address[:4]
    assert card.read(reg.RA + 4, 4) == 0x8000_0000 | int.from_bytes(address[4:], "little")


def test_an_address_has_six_bytes() -> None:
    with pytest.raises(ValueError, match="expected an address of 6 bytes, got 5"):
        E1000(bytes(5))


# --- wire ---


def test_without_a_wire_frames_vanish() -> None:
    bench = Bench()
    bench.card.wire = None
    bench.send_ring()
    bench.descriptor(0, DATA, SIMPLE | 60)
    bench.write(reg.TDT, 1)
    assert bench.status(0) == tx.DD
    assert bench.read(reg.TPT) == 1
    bench.receive_ring()  # RDT and the end of the hold-off ask nobody


@pytest.mark.parametrize("plain", [False, True])
def test_a_full_wire_stops_the_ring_where_it_is(plain: bool) -> None:
    bench = Bench(plain)
    bench.send_ring()
    for index in range(6):
        bench.ram.write(DATA + 64 * index, frame_of(60 + index))
        bench.descriptor(index, DATA + 64 * index, SIMPLE | 60 + index)
    bench.wire.room = 2
    bench.write(reg.TDT, 6)
    for more in (0, 1):
        assert bench.read(reg.TDH) == 2 + more
        assert [bench.status(index) for index in range(6)] == [tx.DD] * (2 + more) + [0] * (
            4 - more
        )
        assert bench.read(reg.TPT) == 2 - more
        assert bench.read(reg.ICR) == reg.INT_TXDW  # and not TXQE
        bench.write(reg.TDT, 6)  # changes nothing
        assert bench.read(reg.ICR) == 0
        bench.wire.room = 1 - more
        bench.card.resume_transmit()
    bench.wire.room = None
    bench.card.resume_transmit()
    assert bench.wire.take() == [frame_of(60 + index) for index in range(6)]
    assert bench.read(reg.ICR) == reg.INT_TXDW | reg.INT_TXQE
    assert bench.read(reg.TDH) == 6
    bench.card.resume_transmit()
    assert bench.read(reg.ICR) == 0


def test_a_reset_forgets_what_the_wire_did_not_take() -> None:
    bench = Bench(plain=True)
    bench.send_ring()
    bench.descriptor(0, DATA, SIMPLE | 60)
    bench.wire.room = 0
    bench.write(reg.TDT, 1)
    bench.card.reset()
    bench.wire.room = None
    bench.card.resume_transmit()
    assert bench.wire.take() == []


def test_frames_that_are_not_taken_are_left_to_the_wire() -> None:
    bench = Bench()
    bench.receive_ring(8, tail=3)
    frames = [frame_of(60 + index) for index in range(5)]
    assert bench.card.receive(frames) == 3
    assert not bench.card.can_receive()
    assert bench.card.receive(frames[3:]) == 0
    assert bench.read(reg.MPC) == 0
    bench.write(reg.RDT, 7)
    assert bench.wire.asked == 1
    assert bench.card.receive(frames[3:]) == 2
    assert [bench.received(index)[2] for index in range(5)] == frames


def test_whoever_may_receive_again_says_so() -> None:
    bench = Bench()
    bench.receive_ring(8, tail=0)
    bench.write(reg.RDT, 0)
    assert bench.wire.asked == 0  # no buffer, nothing to ask for
    bench.write(reg.RDT, 1)
    assert bench.wire.asked == 1
    bench.card.config_write(COMMAND, 2, 3)
    assert not bench.card.can_receive()
    assert bench.wire.asked == 1
    bench.card.config_write(COMMAND, 2, 7)
    assert bench.card.can_receive()
    assert bench.wire.asked == 2
    bench.write(reg.RCTL, reg.RCTL_EN)
    assert not bench.card.can_receive()
    bench.clock.step(999 * MS)
    assert not bench.card.can_receive()
    bench.clock.step(MS)
    assert bench.card.can_receive()
    assert bench.wire.asked == 3
    bench.write(reg.MDIC, RESTART)
    assert not bench.card.can_receive()
    bench.clock.step(500 * MS)
    assert bench.card.can_receive()
    assert bench.wire.asked == 4


@pytest.mark.parametrize("plain", [False, True])
def test_the_data_comes_before_the_status(plain: bool) -> None:
    """Whoever polls a status sees all that it stands for; DD comes in one store, once."""
    bench = Bench(plain)
    bench.receive_ring(8, rctl=reg.RCTL_BSEX if plain else 0)
    bench.ram.written.clear()
    bench.card.receive([frame_of(100), frame_of(200)])
    of_frame = [address for address, _ in bench.ram.written]
    half = len(of_frame) // 2
    for index, places in enumerate((of_frame[:half], of_frame[half:])):
        descriptor = RECEIVE_RING + 16 * index
        assert places[0] == BUFFERS + BUFFER_STEP * index
        assert all(descriptor <= place < descriptor + 16 for place in places[1:])
    assert bench.ram.written[-1] == ((RECEIVE_RING + 28, 1) if plain else (RECEIVE_RING + 24, 8))
    assert bench.received(1) == (rx.DD | rx.EOP | rx.IXSM, 204, frame_of(200))
    bench.send_ring()
    bench.descriptor(0, DATA, SIMPLE | 60)
    bench.ram.written.clear()
    bench.wire.on_send = lambda: bench.ram.written.append((0, 0))
    bench.write(reg.TDT, 1)
    assert bench.ram.written == [(0, 0), (SEND_RING + 12, 4)]


# --- interrupt and time ---


def test_the_line_falls_at_once_and_rises_after_the_throttle() -> None:
    bench = Bench()
    bench.write(reg.IMS, reg.INT_LSC)
    for itr, nanoseconds in ((0, 128_000), (499, 128_000), (501, 128_256), (0xFFFF, 16_776_960)):
        bench.clock.step(20 * MS)
        bench.write(reg.ITR, itr)
        bench.write(reg.ICS, reg.INT_LSC)
        assert bench.interrupt
        assert bench.read(reg.ICR) == reg.INT_LSC
        assert not bench.interrupt
        bench.write(reg.ICS, reg.INT_LSC)
        bench.clock.step(nanoseconds - 1)
        assert not bench.interrupt
        bench.clock.step(1)
        assert bench.interrupt
        bench.read(reg.ICR)


def test_a_reset_puts_everything_back() -> None:
    bench = Bench()
    fresh = Bench()
    fresh.card.reset()
    bench.receive_ring()
    bench.send_ring()
    bench.write(reg.RA, 0)
    bench.write(reg.VET, 0)
    bench.write(reg.PBM, 1)
    bench.write(reg.MDIC, RESTART)
    bench.write(reg.RCTL, reg.RCTL_EN)
    bench.write(reg.IMS, reg.INT_LSC)
    bench.write(reg.ICS, reg.INT_LSC)
    bench.descriptor(0, DATA, 60)
    bench.write(reg.TDT, 1)  # a frame has begun
    assert bench.card.state() != fresh.card.state()
    bench.card.reset()
    assert bench.card.state() == fresh.card.state()
    assert not bench.interrupt
    bench.wire.asked = 0
    bench.clock.step(2000 * MS)  # no timer is left
    assert bench.card.state() == fresh.card.state()
    assert bench.wire.asked == 0


def test_the_state_has_nothing_of_the_link() -> None:
    bench = Bench()
    bench.write(reg.MDIC, RESTART)
    down = bench.card.state()
    bench.clock.step(500 * MS)
    assert bench.read(reg.ICR) == reg.INT_LSC
    assert bench.card.state() == down
    assert bench.read(reg.STATUS) & reg.STATUS_LU


def test_parts_of_registers() -> None:
    """A part of a register reads as its lowest bytes, and is written as all of it."""
    bench = Bench()
    bench.write(reg.RA, 0x1122_3344)
    assert bench.space.read(BAR + reg.RA + 3, 1) == 0x44
    assert bench.space.read(BAR + reg.RA + 1, 2) == 0x4444
    bench.space.write(BAR + reg.RA + 3, 1, 0x55)
    assert bench.read(reg.RA) == 0x55
    bench.space.write(BAR + reg.RA, 8, 0x0102_0304_0506_0708)
    assert (bench.read(reg.RA), bench.read(reg.RA + 4)) == (0x0506_0708, 0x0102_0304)
