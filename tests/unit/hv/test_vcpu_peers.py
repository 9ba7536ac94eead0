"""A peer of the vCPU that is gone, or that writes to words which are not its own."""

from __future__ import annotations

import os

import pytest

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied, ProtocolError
from helpers.hv_pair import (
    LIMIT,
    POLICIES,
    SMALL_RING,
    Pair,
    table,
)

LOAD, STORE, IN, OUT = abi.OP_LOAD, abi.OP_STORE, abi.OP_IN, abi.OP_OUT


# --- a peer that is gone or wrong ---


@POLICIES
def test_the_guest_learns_of_the_end_of_its_vmm(policy: WaitPolicy) -> None:
    """In the middle of an exit: PeerDied, soon."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
    assert isinstance(pair.guest_error, PeerDied)
    assert "the VMM process ended" in str(pair.guest_error)


@POLICIES
def test_the_vmm_learns_of_the_end_of_the_guest_and_gets_what_was_published(
    policy: WaitPolicy,
) -> None:
    """An exit that was made before is still handled, then PeerDied comes; the ring is whole."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x5000, 1, 0)
            vcpu.fill(0x1000, 1, 100, 0)
            raise KeyError("the end")

        pair.start(guest)
        assert pair.next_exit()[1] == 0x5000
        with pytest.raises(PeerDied, match="the guest process ended"):
            pair.next_exit()
        assert isinstance(pair.join(), KeyError)
        assert [e.address for e in pair.drain()] == list(range(0x1000, 0x1064))


@pytest.mark.parametrize("step", [-1, 1, 2, 1 << 31])
def test_a_wrong_resume_sequence_is_reported(step: int) -> None:
    """The guest names the value and the one expected."""
    with Pair(WaitPolicy.BLOCK) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        wrong = (2 + step) % (1 << 32)
        pair.mapping.write(core.RESUME_SEQUENCE, wrong.to_bytes(4, "little"))
        os.write(pair.resume_write, b"x")
        if wrong == 1:  # what stood there before: no news at all
            pair.mapping.write(core.RESUME_SEQUENCE, bytes(4))
            wrong = 0
            os.write(pair.resume_write, b"x")
        error = pair.join()
        assert isinstance(error, ProtocolError)
        assert str(error) == f"run page: resume sequence is {wrong}, expected 2"


@pytest.mark.parametrize("wrong", [0, 3, 1 << 31, (1 << 32) - 1])
def test_a_wrong_exit_sequence_is_reported(wrong: int) -> None:
    """The VMM names the value and the one expected."""
    with Pair(WaitPolicy.BLOCK) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.mapping.write(core.EXIT_SEQUENCE, wrong.to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match=f"exit sequence is {wrong}, expected 1"):
            pair.handle.wait(LIMIT, False)


def test_an_exit_of_a_guest_that_was_not_entered_is_reported() -> None:
    """Nothing can have exited before the first entry."""
    with Pair() as pair:
        pair.mapping.write(core.EXIT_SEQUENCE, (1).to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match="exit sequence is 1, expected 0"):
            pair.handle.wait(LIMIT, False)


@POLICIES
@pytest.mark.parametrize("word", [core.RESUME_SEQUENCE, core.IRQ_LINES, core.REQUEST_SEQUENCE])
def test_a_word_of_the_vmm_that_another_process_overwrites(policy: WaitPolicy, word: int) -> None:
    """Its message may be lost: the VMM's wait reports it and does not wait for ever."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.wait_interrupt(1, None))
        pair.handle.set_irq(7, True)
        pair.handle.request()
        pair.handle.enter()
        pair.mapping.write(word, bytes(1))
        with pytest.raises(ProtocolError, match="a word of the VMM's was overwritten"):
            pair.handle.wait(LIMIT, False)


def test_a_kick_that_another_process_takes_back() -> None:
    """The guest would run on, and the VMM wait for it to stop."""
    with Pair(WaitPolicy.POLL) as pair:
        pair.handle.enter()  # and nobody there to see the kick
        pair.handle.kick()
        pair.mapping.write(abi.KVM_RUN_IMMEDIATE_EXIT, bytes(1))
        with pytest.raises(ProtocolError, match="a word of the VMM's was overwritten"):
            pair.handle.wait(LIMIT, False)


@POLICIES
def test_a_word_of_the_guest_that_another_process_overwrites(policy: WaitPolicy) -> None:
    """The same on the other side: nobody would answer an exit that is not told."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.mapping.write(core.EXIT_SEQUENCE, bytes(4))
        error = pair.join()
        assert isinstance(error, ProtocolError)
        assert str(error) == "run page: the exit sequence was overwritten"


MMIO, IO = abi.KVM_RUN_MMIO, abi.KVM_RUN_IO


@pytest.mark.parametrize(
    ("number", "union", "said"),
    [
        (0, b"", "exit_reason is 0, expected 2, 5, 6, 7, 10 or 24"),
        (8, b"", "exit_reason is 8, expected"),
        (2**32 - 1, b"", "exit_reason is 4294967295, expected"),
        (6, MMIO.pack(0, bytes(8), 0, 0), "mmio.len is 0, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 9, 0), "mmio.len is 9, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 2**32 - 1, 0), "mmio.len is 4294967295, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 4, 2), "mmio.is_write is 2, expected 0 or 1"),
        (6, MMIO.pack(2**64 - 1, bytes(8), 2, 1), "mmio.phys_addr is 18446744073709551615"),
        (2, IO.pack(0, 3, 0, 1, 4096), "io.size is 3, expected 1, 2 or 4"),
        (2, IO.pack(0, 0, 0, 1, 4096), "io.size is 0, expected 1, 2 or 4"),
        (2, IO.pack(0, 8, 0, 1, 4096), "io.size is 8, expected 1, 2 or 4"),
        (2, IO.pack(2, 1, 0, 1, 4096), "io.direction is 2, expected 0 or 1"),
        (2, IO.pack(1, 4, 0xFFFD, 1, 4096), "io.port is 65533, expected a port whose last byte"),
        (2, IO.pack(1, 1, 0, 2, 4096), "io.count is 2, expected 1"),
        (2, IO.pack(1, 1, 0, 0, 4096), "io.count is 0, expected 1"),
        (2, IO.pack(1, 1, 0, 1, 8192), "io.data_offset is 8192, expected 4096"),
        (2, IO.pack(1, 1, 0, 1, 2**63), "io.data_offset is 9223372036854775808, expected 4096"),
    ],
)
def test_an_exit_that_breaks_the_layout_is_named(number: int, union: bytes, said: str) -> None:
    """Field and value; and there is nothing to complete."""
    with Pair() as pair:
        pair.mapping.write(abi.KVM_RUN_EXIT_REASON, number.to_bytes(4, "little"))
        pair.mapping.write(abi.KVM_RUN_UNION, union)
        with pytest.raises(ProtocolError) as raised:
            pair.handle.exit()
        assert said in str(raised.value)
        with pytest.raises(RuntimeError, match="no load"):
            pair.handle.complete(0)


@pytest.mark.parametrize("first", [5, 77, 2**32 - 1])
def test_a_consumer_index_that_is_no_slot_stops_the_guest(first: int) -> None:
    """The producer looks when the ring seems full, and touches nothing outside."""
    with Pair(ring_size=SMALL_RING) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        pair.mapping.write(pair.ring_offset, first.to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match=f"ring: index first is {first}"):
            pair.vcpu.fill(0x1000, 1, 5, 0)
