"""Posted zones: their writes are queued like others and wake a VMM that sleeps."""

from __future__ import annotations

import errno
import os

import pytest

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import ProtocolError, RequestError
from coalesced.hv.outcome import Event as Ended
from coalesced.hv.zones import Zones
from helpers.hv_pair import LIMIT, POLICIES, SMALL_RING, Pair, operations, table

STORE, OUT = abi.OP_STORE, abi.OP_OUT
PLAIN, BELL, WAKING = 0x1000, 0x2000, core.WATCH_POSTED


def set_zones(pair: Pair) -> None:
    """A plain zone, and a posted one of memory and of ports."""
    pair.vcpu.set_zones(0, table((PLAIN, 0x100), (BELL, 8)), b"\0\1")
    pair.vcpu.set_zones(1, table((0x70, 4)), b"\1")


def signals_of(pair: Pair) -> int:
    """Bytes in the exit pipe, taken out."""
    return len(os.read(pair.exit_read, 4096))


@POLICIES
@pytest.mark.parametrize("pio", [False, True])
def test_a_posted_write_ends_the_wait_of_the_vmm_and_the_guest_runs_on(
    policy: WaitPolicy, pio: bool
) -> None:
    """Writes that were queued before it come with it, in order; it is no exit."""
    with Pair(policy) as pair:
        set_zones(pair)

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(PLAIN, 4, 1)
            if pio:
                vcpu.out(0x70, 1, 2)
            else:
                vcpu.store(BELL, 4, 2)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        assert pair.handle.wait(LIMIT, WAKING) is Ended.RING_FILLED
        assert pair.handle.running
        assert [event.value for event in pair.drain()] == [1, 2]
        assert pair.vcpu.exits == 0
        assert pair.handle.wait(0, WAKING) is Ended.TIMED_OUT  # reported once
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_a_plain_write_beside_a_posted_zone_wakes_nobody() -> None:
    with Pair(WaitPolicy.BLOCK) as pair:
        set_zones(pair)

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(PLAIN, 4, 1)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        assert pair.handle.wait(0.01, WAKING) is Ended.TIMED_OUT
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT
        assert [event.value for event in pair.drain()] == [1]


@POLICIES
def test_a_vmm_that_is_awake_gets_no_byte(policy: WaitPolicy) -> None:
    """Not in `block` either, where each exit writes one."""
    with Pair(policy) as pair:
        set_zones(pair)
        for number in range(5):
            pair.vcpu.store(BELL, 4, number)
        assert pair.vcpu.signals == 0
        pair.mapping.write(core.VMM_NEED_WAKEUP, b"\1")
        pair.vcpu.store(BELL, 4, 5)
        assert (pair.vcpu.signals, signals_of(pair)) == (1, 1)


@pytest.mark.parametrize("length", [1, 5])
def test_a_posted_write_in_a_bulk_operation_is_shown_at_once(length: int) -> None:
    """With all before it; those behind it are shown at the end of the operation."""
    with Pair() as pair:
        set_zones(pair)
        pair.mapping.write(core.VMM_NEED_WAKEUP, b"\1")
        one = [(STORE, 4, PLAIN, 1), (STORE, 4, BELL, 2), (STORE, 4, BELL, 3)]
        one += [(OUT, 1, 0x71, 4), (STORE, 1, PLAIN, 5)]
        pair.vcpu.execute(operations(one * length))
        assert signals_of(pair) == 3 * length
        assert [event.value for event in pair.drain()] == [1, 2, 3, 4, 5] * length
        assert pair.vcpu.coalesced == 5 * length


def posts_and_waits(vcpu: core.Vcpu) -> None:
    vcpu.store(BELL, 4, 1)
    vcpu.wait_interrupt(1, None)


def test_a_posted_write_into_a_full_ring_exits() -> None:
    with Pair(ring_size=SMALL_RING) as pair:
        set_zones(pair)

        def guest(vcpu: core.Vcpu) -> None:
            for number in range(6):
                vcpu.store(BELL, 4, number)

        pair.start(guest)
        reason, address, _, _, value = pair.next_exit()
        assert (reason, address, value) == (abi.KVM_EXIT_MMIO, BELL, 4)
        assert [event.value for event in pair.drain()] == [0, 1, 2, 3]
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert [event.value for event in pair.drain()] == [5]


def test_a_post_that_an_exit_has_overtaken_is_reported_no_more() -> None:
    """The exit drains it."""
    with Pair() as pair:
        set_zones(pair)

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(BELL, 4, 1)
            vcpu.store(0x9000, 1, 2)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") == 0:
            pass
        assert pair.handle.run(LIMIT, WAKING) == (abi.KVM_EXIT_MMIO, 0x9000, 1, True, 2)
        assert [event.value for event in pair.drain()] == [1]
        assert pair.handle.run(0.01, WAKING) is Ended.TIMED_OUT
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_a_post_before_a_pause_is_reported_after_it() -> None:
    """Requests stop the guest without draining."""
    with Pair() as pair:
        set_zones(pair)
        pair.start(posts_and_waits)
        pair.handle.enter()
        while int.from_bytes(pair.mapping.read(core.POSTED_SEQUENCE, 4), "little") == 0:
            pass
        pair.handle.pause()
        assert pair.handle.run(LIMIT, WAKING) is Ended.RING_FILLED
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_a_posted_sequence_that_a_third_process_overwrites_is_reported() -> None:
    """By the guest's side in its next wait: the VMM may not have seen the write."""
    with Pair() as pair:
        set_zones(pair)
        pair.start(posts_and_waits)
        pair.handle.enter()
        assert pair.handle.wait(LIMIT, WAKING) is Ended.RING_FILLED
        pair.mapping.write(core.POSTED_SEQUENCE, b"\7")
        pair.handle.set_irq(1, True)  # wakes it
        error = pair.join()
        assert isinstance(error, ProtocolError)
        assert str(error) == "run page: the posted sequence was overwritten"


# --- the registry ---


def test_a_posted_zone_may_not_overlap_one_that_is_none() -> None:
    """In either order. It may touch one, and overlap a zone of its own kind."""
    zones = Zones()
    zones.register(0x10, 8, posted=True)
    zones.register(0x14, 8, posted=True)
    zones.register(0x8, 8)
    zones.register(0x1C, 8)
    for addr, size in ((0xC, 8), (0x10, 1), (0x1B, 1), (0, 0x100)):
        with pytest.raises(RequestError, match="only one of them is posted") as refused:
            zones.register(addr, size)
        assert refused.value.errno == errno.EEXIST
    with pytest.raises(RequestError):
        zones.register(0xF, 2, posted=True)
    found = {pair: zones.kind_of(*pair).posted for pair in zones.outermost()}
    assert found == {(8, 15): False, (0x10, 0x17): True, (0x14, 0x1B): True, (0x1C, 0x23): False}


def test_a_posted_zone_that_was_removed_is_posted_no_more() -> None:
    zones = Zones()
    zones.register(0x10, 8, posted=True)
    assert zones.unregister(0x10, 8) == 1
    zones.register(0x10, 8)
    assert not zones.kind_of(0x10, 0x17).posted
