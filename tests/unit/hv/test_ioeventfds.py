"""ioeventfds: a write that matches signals a descriptor, and nothing else happens."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from coalesced.hv import abi, core
from coalesced.hv.errors import RequestError
from coalesced.hv.ioeventfds import Ioeventfd, Ioeventfds
from coalesced.hv.zones import Zones
from helpers.hv_pair import SMALL_RING, Pair, operations, table

STORE, OUT = abi.OP_STORE, abi.OP_OUT
AT = 0x1010
PATIENCE = 60.0  # seconds


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield made
    os.close(made)


def taken(fd: int) -> int:
    """Read an eventfd: the number of signals since the last call."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def set_up(pair: Pair, events: Ioeventfds) -> None:
    pair.vcpu.set_zones(0, table((0x1000, 0x100)))
    for pio in (False, True):
        pair.vcpu.set_events(pio, events.packed(pio))


def test_what_was_queued_before_an_event_is_shown_before_it(fd: int) -> None:
    """In a bulk operation that would show it at its end."""
    events = Ioeventfds((Zones(), Zones()))
    events.add(Ioeventfd(AT, 4), fd)
    events.add(Ioeventfd(0x70, 1, 5, pio=True), fd)
    with Pair() as pair:
        set_up(pair, events)
        pair.vcpu.execute(
            operations([(STORE, 4, AT - 4, 1), (STORE, 4, AT, 2), (STORE, 4, AT + 4, 3)])
        )
        assert taken(fd) == 1
        assert [event.value for event in pair.drain()] == [1, 3]
        pair.vcpu.store(AT, 2, 4)
        pair.vcpu.out(0x70, 1, 5)
        assert (taken(fd), pair.vcpu.exits, pair.vcpu.coalesced) == (1, 0, 3)


def test_the_entries_before_a_signal_are_shown_when_it_comes() -> None:
    """In a bulk operation, too. The guest is held in the signal: its descriptor is a full pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x100)))
        pair.vcpu.set_events(0, abi.HV_EVENT.pack(AT, 0, 4, writer, False, True))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.execute(operations([(STORE, 4, AT - 4, 1), (STORE, 4, AT, 2)]))

        pair.start(guest)
        pair.handle.enter()
        deadline = time.monotonic() + PATIENCE
        while not (shown := pair.drain()) and time.monotonic() < deadline:
            pass
        os.read(reader, 1 << 20)
        assert [event.value for event in shown] == [1]
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT
    os.close(reader)
    os.close(writer)


def test_an_event_whose_counter_is_full_costs_no_guest_its_life(fd: int) -> None:
    events = Ioeventfds((Zones(), Zones()))
    events.add(Ioeventfd(AT, 0), fd)
    os.eventfd_write(fd, (1 << 64) - 2)
    with Pair() as pair:
        set_up(pair, events)
        pair.vcpu.store(AT, 8, 1)
        assert taken(fd) == (1 << 64) - 2


def test_a_write_that_has_no_room_goes_to_the_event_behind_its_zone(fd: int) -> None:
    """As on KVM's bus: the next device is asked."""
    zones = Zones()
    zones.register(0x1000, 0x100)
    events = Ioeventfds((zones, Zones()))
    events.add(Ioeventfd(AT, 4), fd)
    with Pair(ring_size=SMALL_RING) as pair:
        set_up(pair, events)
        values = np.arange(6, dtype=np.uint64)
        pair.vcpu.store_many(np.full(6, AT, np.uint64), 4, values)
        assert [event.value for event in pair.drain()] == [0, 1, 2, 3]
        assert taken(fd) == 2


@pytest.mark.parametrize(
    ("event", "number"),
    [
        (Ioeventfd(AT, 3), errno.EINVAL),
        (Ioeventfd(AT, 0, 1), errno.EINVAL),
        (Ioeventfd((1 << 64) - 1, 1), errno.EINVAL),
        (Ioeventfd(0x40, 2), errno.EEXIST),
        (Ioeventfd(0x40, 0), errno.EEXIST),
        (Ioeventfd(0x50, 1, 4), errno.EEXIST),
        (Ioeventfd(0x50, 1), errno.EEXIST),
    ],
)
def test_what_cannot_be_registered_is_refused(event: Ioeventfd, number: int, fd: int) -> None:
    events = Ioeventfds((Zones(), Zones()))
    events.add(Ioeventfd(0x40, 2), fd)
    events.add(Ioeventfd(0x50, 1, 4), fd)
    events.add(Ioeventfd(0x50, 1, 5), fd)
    with pytest.raises(RequestError) as refused:
        events.add(event, fd)
    assert refused.value.errno == number


def test_zones_and_events_share_their_limit(fd: int) -> None:
    zones = Zones()
    for number in range(abi.NR_IOBUS_DEVS - 1):
        zones.register(8 * number, 8)
    events = Ioeventfds((zones, Zones()))
    events.add(Ioeventfd(AT, 1), fd)
    with pytest.raises(RequestError) as refused:
        events.add(Ioeventfd(AT, 2), fd)
    assert refused.value.errno == errno.ENOSPC
    events.remove(Ioeventfd(AT, 1))
    events.add(Ioeventfd(AT, 2), fd)


def test_a_descriptor_that_blocks_is_refused() -> None:
    """Its full counter would stop the guest."""
    blocking = os.eventfd(0)
    with pytest.raises(RequestError, match="does not block"):
        Ioeventfds((Zones(), Zones())).add(Ioeventfd(AT, 1), blocking)
    os.close(blocking)


def test_what_was_packed_is_unpacked() -> None:
    for event in (Ioeventfd(1, 4), Ioeventfd(2, 2, 7, pio=True), Ioeventfd(3, 0)):
        for assign in (True, False):
            assert Ioeventfd.unpack(event.pack(3, assign)) == (event, assign)
    for wrong in (b"", bytes(24) + b"\x10" + bytes(39)):
        with pytest.raises(RequestError):
            Ioeventfd.unpack(wrong)
