"""Rings of devices' own: which writes go there, when they are published, when a signal comes."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from coalesced.hv import abi, core
from coalesced.hv.errors import RequestError, SegmentError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Event
from coalesced.hv.registered import Registered
from coalesced.hv.zones import Zones
from helpers.hv_pair import LIMIT, Pair, operations, ram, segment, table
from helpers.own_ring import ENTRIES, Own

STORE, OUT = abi.OP_STORE, abi.OP_OUT
COMMON, FIRST, SECOND, PORT, RAM = 0x1000, 0x2000, 0x3000, 0x70, 0x100000
PLENTY = 200_000


@contextmanager
def rings(count: int = 2, entries: int = ENTRIES) -> Iterator[tuple[Pair, list[Own]]]:
    """A vCPU with a zone in the VM's ring, and others in own rings; a port is in the first one."""
    own = [Own(entries) for _ in range(count)]
    with Pair() as pair:
        set_zones(pair.vcpu, own)
        yield pair, own
    for each in own:
        each.close()


def set_zones(vcpu: core.Vcpu, own: list[Own]) -> None:
    vcpu.set_rings(tuple(each.guest for each in own))
    zones = table((COMMON, 0x100), (FIRST, 0x100), (SECOND, 0x100))
    vcpu.set_zones(0, zones, b"\0\0\0", bytes([0, 1, min(2, len(own))]))
    vcpu.set_zones(1, table((PORT, 2)), b"\0", b"\1")


def test_a_write_goes_into_the_ring_of_its_zone() -> None:
    with rings() as (pair, (first, second)):
        pair.vcpu.store(FIRST, 4, 1)
        stores = [(STORE, 4, COMMON, 2), (STORE, 4, SECOND, 3), (STORE, 1, FIRST, 4)]
        pair.vcpu.execute(operations([*stores, (OUT, 1, PORT, 5), (STORE, 8, COMMON, 6)]))
        pair.vcpu.fill(SECOND, 2, 2, 7)
        pair.vcpu.store_many(np.array([FIRST], np.uint64), 4, np.array([8], np.uint64))
        assert (first.drain(), second.drain()) == ([1, 4, 5, 8], [3, 7, 7])
        assert [event.value for event in pair.drain()] == [2, 6]
        assert pair.vcpu.coalesced == 9


def test_a_write_that_finds_its_own_ring_full_exits_and_others_do_not() -> None:
    with rings() as (pair, (first, second)):

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.fill(FIRST, 4, ENTRIES + 1, 1)
            vcpu.store(SECOND, 4, 2)
            vcpu.store(FIRST, 4, 3)

        pair.start(guest)
        reason, address, *_ = pair.next_exit()
        assert (reason, address) == (abi.KVM_EXIT_MMIO, FIRST + 4 * ENTRIES)
        assert pair.next_exit()[1:] == (FIRST, 4, True, 3)
        assert (first.drain(), second.drain()) == ([1] * ENTRIES, [2])
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT


def test_zones_that_name_no_ring_are_refused() -> None:
    with rings() as (pair, own):
        with pytest.raises(ValueError, match="rings that there are"):
            pair.vcpu.set_zones(0, table((FIRST, 8)), b"\0", b"\3")
        with pytest.raises(ValueError, match="expected 1 to 5 entries, got 6"):
            own[0].guest.own(own[0].fd, 6)


def test_without_its_ring_a_zone_is_gone() -> None:
    with rings() as (pair, _):
        pair.vcpu.set_rings(())

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(FIRST, 4, 1)

        pair.start(guest)
        assert pair.next_exit()[1] == FIRST


# --- the descriptor ---


def test_the_descriptor_is_readable_from_half_full_on_until_the_ring_is_looked_into() -> None:
    with rings() as (pair, (first, second)):
        assert first.wake_at == 3
        for number in range(2):
            pair.vcpu.store(FIRST, 4, number)
            assert not first.readable()
        pair.vcpu.store(FIRST, 4, 2)
        assert first.readable()
        assert not second.readable()
        pair.vcpu.store(FIRST, 4, 3)
        assert first.drain() == [0, 1, 2, 3]
        assert not first.readable()
        pair.vcpu.store(FIRST, 4, 4)
        assert not first.readable()
        pair.vcpu.fill(FIRST, 4, 2, 5)
        assert first.readable()


def test_it_is_written_once_until_the_ring_is_looked_into() -> None:
    with rings() as (pair, (first, _)):
        for _ in range(3):
            for _ in range(ENTRIES):
                pair.vcpu.store(FIRST, 4, 1)
            assert os.eventfd_read(first.fd) == 1
            assert first.drain() == [1] * ENTRIES


def test_the_vmm_does_not_wait_for_a_descriptor_that_the_guest_has_emptied_and_made_block() -> None:
    with rings() as (pair, (first, _)):
        pair.vcpu.fill(FIRST, 4, 3, 1)
        assert os.eventfd_read(first.fd) == 1
        os.set_blocking(first.fd, True)
        first.ring.core.answer()
        assert first.drain() == [1, 1, 1]


def test_a_long_operation_is_reported_while_it_runs() -> None:
    """Its batches are published one by one."""
    own = Own(PLENTY, wake_at=1)
    with Pair() as pair:
        set_zones(pair.vcpu, [own])
        seen: list[int] = []

        def watch() -> None:
            while sum(seen) < PLENTY:
                if own.readable():
                    seen.append(len(own.drain()))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        pair.vcpu.execute(np.repeat(operations([(STORE, 4, FIRST, 0)]), PLENTY))
        watcher.join(LIMIT)
        assert sum(seen) == PLENTY
    own.close()


# --- posted writes ---


def test_a_posted_write_in_an_own_ring_is_reported_although_an_exit_follows_it() -> None:
    """The exit may be of another device, and does not drain the ring then."""
    watch = core.WATCH_POSTED | core.POSTED_APART
    with rings() as (pair, (first, _)):
        pair.vcpu.set_zones(0, table((FIRST, 0x100)), b"\1", b"\1")

        def guest(vcpu: core.Vcpu) -> None:
            for number in range(2):
                vcpu.store(FIRST, 4, number)
                vcpu.store(0x9000, 1, number)

        pair.start(guest)
        pair.handle.enter()
        for number in range(2):
            while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") == number:
                pass
            assert pair.handle.run(LIMIT, watch) is Event.RING_FILLED
            assert first.drain() == [number]
            exited = abi.KVM_EXIT_MMIO, 0x9000, 1, True, number
            assert pair.handle.run(LIMIT, watch) == exited
            pair.handle.enter()
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_an_exit_does_not_take_the_report_of_a_posted_write_between_an_earlier_one_and_it() -> None:
    """The reports of posted writes and exits take turns."""
    watch = core.WATCH_POSTED | core.POSTED_APART
    reported = threading.Event()
    with rings() as (pair, (first, _)):
        pair.vcpu.set_zones(0, table((FIRST, 0x100)), b"\1", b"\1")

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(FIRST, 4, 0)
            reported.wait(LIMIT)
            vcpu.store(FIRST, 4, 1)
            vcpu.store(0x9000, 1, 2)

        pair.start(guest)
        assert pair.handle.run(LIMIT, watch) is Event.RING_FILLED
        reported.set()
        while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") == 0:
            pass
        assert pair.handle.run(LIMIT, watch) == (abi.KVM_EXIT_MMIO, 0x9000, 1, True, 2)
        assert pair.handle.run(LIMIT, watch) is Event.RING_FILLED
        assert first.drain() == [0, 1]
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


# --- how long entries wait ---


def test_waits_are_counted_from_the_first_write_into_an_empty_ring() -> None:
    """No exit of the guest lies between."""
    with rings() as (pair, (first, _)):
        pair.vcpu.store(FIRST, 4, 1)
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        first.drain()
        told = first.ring.core.waits()
        assert told is not None
        assert told[2] >= 20_000_000
        for number in range(99):
            pair.vcpu.store(FIRST, 4, number)
            first.drain()
        told = first.ring.core.waits()
        assert told is not None
        assert told[0] < 10_000_000


def test_writes_that_the_guest_slept_on_are_named() -> None:
    with rings() as (pair, (first, _)):

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(FIRST + 8, 4, 1)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        while not any(first.mapping.read(core.WAITS_OFFSET, 8)):
            pass  # it has not noted yet that it sleeps
        pair.handle.set_irq(0, True)
        pair.this_exit()
        first.drain()
        told = first.ring.core.waits()
        assert told is not None
        assert [each[:4] for each in told[5]] == [(FIRST + 8, FIRST + 11, False, 1)]


# --- several vCPUs ---


@contextmanager
def several(count: int, own: list[Own]) -> Iterator[list[core.Vcpu]]:
    """vCPUs that never leave the guest, with the zones of `set_zones`."""
    runs = [segment(f"run page {number}", abi.RUN_PAGES * abi.PAGE_SIZE) for number in range(count)]
    body = segment("ring", abi.PAGE_SIZE)
    mappings = [core.Mapping([runs[0], body]), *(core.Mapping([run]) for run in runs[1:])]
    common = core.VmRing(mappings[0], runs[0][2], body[2])
    if count > 1:
        for each in (common, *(o.guest for o in own)):
            each.share()
    vcpus = [core.Vcpu(mapping, common, -1, -1, 0, lambda: None) for mapping in mappings]
    for vcpu in vcpus:
        set_zones(vcpu, own)
    yield vcpus
    for _, fd, _ in (body, *runs):
        os.close(fd)


def at_once(vcpus: list[core.Vcpu], programs: list[np.ndarray]) -> None:
    ready = threading.Barrier(len(programs))

    def run(vcpu: core.Vcpu, program: np.ndarray) -> None:
        ready.wait(LIMIT)
        vcpu.execute(program)

    threads = [
        threading.Thread(target=run, args=each) for each in zip(vcpus, programs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_every_write_of_every_vcpu_arrives_once_in_its_ring_and_in_its_order() -> None:
    count, each = 4, 20_000
    own = [Own(count * each), Own(count * each)]
    with several(count, own) as vcpus:
        at_once(
            vcpus,
            [
                operations(
                    [
                        (STORE, 8, (FIRST, SECOND)[serial // 7 % 2], number << 32 | serial)
                        for serial in range(each)
                    ]
                )
                for number in range(count)
            ],
        )
        for turn, ring in enumerate(own):
            values = ring.drain()
            for number in range(count):
                mine = [value & 0xFFFFFFFF for value in values if value >> 32 == number]
                assert mine == [serial for serial in range(each) if serial // 7 % 2 == turn]
    for ring in own:
        ring.close()


def test_a_write_in_an_own_ring_is_published_before_a_later_store_to_ram_is_seen() -> None:
    """Rule 12, with one vCPU and with two, in one long list of operations."""
    for count in (1, 2):
        own = Own()
        with several(count, [own]) as vcpus:
            memory = ram(RAM, bytes(4096), vcpus[0])
            busy = np.repeat(operations([(STORE, 4, RAM + 64, 0)]), 1_000_000)
            seen: list[int] = []

            def look(memory: core.Mapping = memory, own: Own = own, seen: list[int] = seen) -> None:
                while memory.read(0, 1) != b"\1":
                    pass
                seen.append(own.ring.core.pending())

            watcher = threading.Thread(target=look, daemon=True)
            watcher.start()
            vcpus[0].execute(
                np.concatenate([operations([(STORE, 1, FIRST, 7), (STORE, 4, RAM, 1)]), busy])
            )
            watcher.join(LIMIT)
            assert seen == [1]
        own.close()


# --- who is not believed ---


def test_an_own_ring_that_the_vmm_truncates_is_an_error_of_the_guest() -> None:
    with rings() as (pair, (first, _)):
        os.ftruncate(first.part[1], 0)
        with pytest.raises(SegmentError, match="coalesced buffer"):
            pair.vcpu.store(FIRST, 4, 1)


# --- the registry ---


def test_zones_of_different_rings_may_not_overlap() -> None:
    """They may touch, and those of one ring may overlap."""
    zones = Zones()
    zones.register(0x10, 8, buffer=1)
    zones.register(0x14, 8, buffer=1)
    zones.register(0x8, 8)
    zones.register(0x1C, 8, buffer=2)
    for addr, buffer in ((0x1B, 2), (0x10, 0), (0x8, 1)):
        with pytest.raises(RequestError, match="different rings") as refused:
            zones.register(addr, 2, buffer=buffer)
        assert refused.value.errno == errno.EEXIST
    found = {pair: zones.kind_of(*pair).buffer for pair in zones.outermost()}
    assert found == {(8, 15): 0, (0x10, 0x17): 1, (0x14, 0x1B): 1, (0x1C, 0x23): 2}


def test_giving_a_buffer_up_takes_its_zones_along() -> None:
    zones = Zones()
    for number in range(3):
        zones.register(0x100 * number, 8, buffer=number)
        zones.register(0x100 * number + 8, 8, posted=True, buffer=number)
    zones.give_up(1)
    assert [first for first, _ in zones.outermost()] == [0, 8, 0x200, 0x208]
    zones.register(0x100, 8)
    assert zones.kind_of(0x100, 0x107).buffer == 0


class Busy:
    """A vCPU of several that runs on while another one's exit is served."""

    def __init__(self) -> None:
        self.runs = False

    def set_rings(self, _rings: object) -> None:
        if self.runs:
            raise OSError(errno.EBUSY, "a vCPU runs")

    def set_zones(self, *_zones: object) -> None:
        """Take them."""

    set_events = set_zones


def test_a_descriptor_that_a_vcpu_may_still_write_is_not_closed() -> None:
    """Its number would soon be another file's."""
    vcpu, fd = Busy(), os.eventfd(0, os.EFD_NONBLOCK)
    registered = Registered([vcpu])  # type: ignore[list-item]
    registered.has_ring = True
    ask = registered.handlers
    event = Ioeventfd(0x9000, 4)
    buffer = ask[abi.KVM_CREATE_COALESCED_MMIO_BUFFER](abi.HV_BUFFER.pack(1, 1), (fd,))
    ask[abi.KVM_IOEVENTFD](event.pack(-1, True), (fd,))
    vcpu.runs = True
    before = os.listdir("/proc/self/fd")
    for request, argument in (
        (abi.HV_CLOSE_COALESCED_MMIO_BUFFER, abi.HV_REQUEST.pack(buffer[0])),
        (abi.KVM_IOEVENTFD, event.pack(-1, False)),
    ):
        with pytest.raises(OSError, match="runs"):
            ask[request](argument, ())
        assert os.listdir("/proc/self/fd") == before
    for each in (fd, *buffer[2]):
        os.close(each)


def test_a_buffer_of_which_a_vcpu_is_not_told_is_given_back() -> None:
    vcpu, fd = Busy(), os.eventfd(0, os.EFD_NONBLOCK)
    registered = Registered([vcpu])  # type: ignore[list-item]
    registered.has_ring = True
    vcpu.runs = True
    before = os.listdir("/proc/self/fd")
    for _ in range(abi.BUFFERS_MAX + 1):
        with pytest.raises(OSError, match="runs"):
            registered.handlers[abi.KVM_CREATE_COALESCED_MMIO_BUFFER](
                abi.HV_BUFFER.pack(1, 1), (fd,)
            )
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)
