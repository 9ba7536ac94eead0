"""A vCPU, its handle and both ends of their ring begin anew in segments that were renewed."""

from __future__ import annotations

import threading

import pytest

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import ProtocolError
from helpers.hv_oracle import Event
from helpers.hv_pair import LIMIT, POLICIES, Pair, indices, ram, set_indices, table

ZONE, OUTSIDE, RAM = 0x1000, 0x5000, 0x10000
START = 168  # so that the ring wraps


def program(vcpu: core.Vcpu, loaded: list[int]) -> None:
    """Entered once; ends without a halt, so that nothing uses the vCPU afterwards."""
    vcpu.wait_run()
    vcpu.store(RAM, 8, vcpu.load(RAM, 8) + 1)
    for at in range(3):
        vcpu.store(ZONE + at, 1, at)
    loaded.append(vcpu.load(OUTSIDE, 4))


def run_once(pair: Pair) -> tuple[list[Event], list[int]]:
    """Run the program: what came through the ring, and what the load read."""
    loaded: list[int] = []
    thread = threading.Thread(target=program, args=(pair.vcpu, loaded), daemon=True)
    thread.start()
    reason, address, size, is_write, _ = pair.next_exit()
    assert (reason, address, size, is_write) == (abi.KVM_EXIT_MMIO, OUTSIDE, 4, False)
    events = pair.drain()
    pair.handle.complete(7)
    pair.handle.enter()
    thread.join(LIMIT)
    assert not thread.is_alive()
    return events, loaded


def restart(pair: Pair, policy: WaitPolicy, start: int) -> None:
    """Renew the segments, then both sides."""
    pair.mapping.write(0, bytes(len(pair.mapping)))
    set_indices(pair.mapping, pair.ring_offset, start, start)
    assert pair.vm_ring is not None
    assert pair.ring is not None
    pair.vm_ring.restart()
    pair.vcpu.restart(policy)
    pair.handle.restart(policy)
    pair.ring.core.restart()


@POLICIES
def test_all_is_as_new_but_zones_and_memory(policy: WaitPolicy) -> None:
    """Whatever a third party wrote in between; also with another policy."""
    with Pair(start=START) as pair:
        pair.vcpu.set_zones(0, table((ZONE, 0x1000)))
        memory = ram(RAM, bytes(abi.PAGE_SIZE), pair.vcpu)
        expected = [Event(0, 0, ZONE + at, 1, True, at) for at in range(3)], [7]
        assert run_once(pair) == expected
        for turn in range(1, 4):
            pair.mapping.write(0, b"\xa5" * len(pair.mapping))
            restart(pair, policy, START)
            assert pair.vcpu.coalesced == pair.vcpu.exits == pair.vcpu.signals == 0
            assert pair.handle.signals == 0
            assert run_once(pair) == expected
            assert (pair.vcpu.coalesced, pair.vcpu.exits) == (3, 1)
            assert indices(pair.mapping, pair.ring_offset) == ((START + 3) % 170,) * 2
            assert memory.read(0, 1) == bytes([turn + 1])


def test_entries_that_were_peeked_are_forgotten() -> None:
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((ZONE, 0x1000)))
        pair.vcpu.store(ZONE, 1, 1)
        assert pair.ring is not None
        assert len(pair.ring.peek()) == 1
        restart(pair, WaitPolicy.BLOCK, 5)
        assert pair.ring.pending() == len(pair.ring.peek()) == 0
        with pytest.raises(ValueError, match="0 were peeked"):
            pair.ring.commit(1)


def test_a_ring_whose_indices_are_no_slots_is_not_taken_up_anew() -> None:
    with Pair() as pair:
        assert pair.vm_ring is not None
        assert pair.ring is not None
        set_indices(pair.mapping, pair.ring_offset, 170, 171)
        with pytest.raises(ProtocolError, match="index last is 171"):
            pair.vm_ring.restart()
        with pytest.raises(ProtocolError, match="index first is 170"):
            pair.ring.core.restart()


def test_a_vcpu_in_an_access_is_not_restarted() -> None:
    """Its thread would go on with what the other side no longer knows."""
    with Pair() as pair:
        ram(RAM, bytes(abi.PAGE_SIZE), pair.vcpu)
        pair.vcpu.set_zones(0, table((ZONE, 0x1000)))
        thread = threading.Thread(target=program, args=(pair.vcpu, []), daemon=True)
        thread.start()
        pair.next_exit()
        with pytest.raises(RuntimeError, match="in an access"):
            pair.vcpu.restart(WaitPolicy.BLOCK)
        pair.handle.complete(0)
        pair.handle.enter()
        thread.join(LIMIT)
