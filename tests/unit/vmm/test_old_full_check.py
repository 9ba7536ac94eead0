"""Kernels before 6.12 think a ring full too early, or not at all: what a VMM must not do there.

Their part is played by a model of their check; the ring and its consumer are real.
"""

from __future__ import annotations

import pytest

from coalesced.hv.abi import KVM_COALESCED_MMIO_RING_HEADER as HEADER
from coalesced.hv.abi import ring_slots
from coalesced.hv.errors import ProtocolError
from helpers.hv_pair import indices, set_indices
from helpers.tiers import every, some_heavy
from helpers.vmm_fake import FakeRing

SLOTS = ring_slots(1)
ENTRY = 24


class OldKernel:
    """Appends by the full check of kernels before 6.12.

    It takes in 32 bits the remainder of a difference that should wrap at 170, and that is right
    only where `first` is ahead of `last`.
    """

    def __init__(self, ring: FakeRing) -> None:
        self._mapping = ring.mapping

    def append(self, value: int) -> bool:
        first, last = indices(self._mapping)
        if (first - last - 1) % (1 << 32) % SLOTS == 0:
            return False
        entry = (0xA0000, 4, value)  # phys_addr, len and pio, data
        data = b"".join(word.to_bytes(8, "little") for word in entry)
        self._mapping.write(HEADER + ENTRY * last, data)
        self._mapping.write(4, ((last + 1) % SLOTS).to_bytes(4, "little"))
        return True


def drained(ring: FakeRing, most: int = SLOTS) -> list[int]:
    """The values of at most `most` entries, whose slots are given back."""
    values: list[int] = ring.consumer.peek()["data"].tolist()[:most]
    ring.consumer.commit(len(values))
    return values


def started_at(slot: int) -> FakeRing:
    ring = FakeRing()
    set_indices(ring.mapping, 0, slot, slot)
    ring.consumer = type(ring.consumer)(ring.mapping, 0, len(ring.mapping))
    return ring


@some_heavy("start", every([0, 1, 83, 84, 85, 86, 168, 169]), lambda start: start in (84, 85, 169))
def test_drained_to_empty_outside_kvm_run_nothing_is_lost(start: int) -> None:
    """It holds 85 entries where it starts at up to slot 84, and else 169."""
    ring = started_at(start)
    kernel, written, got = OldKernel(ring), 0, list[int]()
    for _ in range(200):
        first, taken = indices(ring.mapping)[0], 0
        while kernel.append(written + taken):
            taken += 1
        assert taken == (85 if first <= 84 else 169)
        written += taken
        got += drained(ring)  # the write that did not fit has exited
    assert got == list(range(written))


def test_drained_while_the_vcpu_runs_entries_are_lost() -> None:
    """A consumer gets to slot 0 while the producer is past slot 85: then even 170 entries are not
    full, and a ring of 170 looks empty."""
    ring = started_at(SLOTS - 1)
    kernel = OldKernel(ring)
    assert all(kernel.append(value) for value in range(100))
    got = drained(ring, 1)
    written = 100
    while indices(ring.mapping)[1] != 0:
        assert kernel.append(written)
        written += 1
    assert indices(ring.mapping) == (0, 0)
    assert got == [0]
    assert written == 1 + SLOTS
    with pytest.raises(ProtocolError, match="index last is 0, expected a slot"):
        ring.consumer.peek()  # this consumer notices; one that has no memory sees an empty ring
