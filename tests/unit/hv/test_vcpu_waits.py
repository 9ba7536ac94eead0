"""Kicks, interrupts and requests, and what ends a wait of either side."""

from __future__ import annotations

import os
import threading
import time

import pytest

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, PeerDied
from coalesced.hv.outcome import Event as Ended
from helpers.hv_pair import (
    LIMIT,
    POLICIES,
    Pair,
    answer,
    operations,
    ram,
    table,
)

LOAD, STORE, IN, OUT = abi.OP_LOAD, abi.OP_STORE, abi.OP_IN, abi.OP_OUT


# --- kicks, interrupts, requests ---


@POLICIES
def test_a_kick_makes_a_running_guest_exit(policy: WaitPolicy) -> None:
    """With KVM_EXIT_INTR before its next operation; entering again clears the kick."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        going = threading.Event()
        stop = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            memory_only = 0
            while not stop.is_set():
                vcpu.load(0x9000, 1)
                memory_only += 1
                going.set()

        ram(0x9000, bytes(0x1000), pair.vcpu)
        pair.start(guest)
        for _ in range(20):
            pair.handle.enter()
            assert going.wait(LIMIT)
            going.clear()
            pair.handle.kick()
            assert pair.this_exit() == (abi.KVM_EXIT_INTR, 0, 0, False, 0)
        stop.set()
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert pair.vcpu.exits == 1  # a kick is none


def test_a_kick_publishes_what_was_queued() -> None:
    """In the middle of a bulk operation, too."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.execute(
                operations([(STORE, 1, 0x1000, n) for n in range(10)] + [(LOAD, 1, 0x5000, 0)])
            )

        pair.start(guest)
        assert pair.next_exit()[1] == 0x5000
        assert len(pair.drain()) == 10
        pair.handle.complete(0)
        pair.handle.kick()
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT  # entering cleared it


def test_a_kick_of_a_stopped_guest_is_cleared_by_entering() -> None:
    """As KVM's immediate_exit would have to be."""
    with Pair() as pair:
        pair.handle.kick()
        assert pair.mapping.read(abi.KVM_RUN_IMMEDIATE_EXIT, 1) == b"\x01"
        pair.start(lambda vcpu: vcpu.store(0x1000, 1, 1))
        assert pair.next_exit()[0] == abi.KVM_EXIT_MMIO
        assert pair.mapping.read(abi.KVM_RUN_IMMEDIATE_EXIT, 1) == b"\x00"


@POLICIES
def test_waiting_for_an_interrupt_ends_with_its_line(policy: WaitPolicy) -> None:
    """Only lines of the mask end the wait, and it tells which of them are high."""
    with Pair(policy) as pair:
        raised: list[int] = []

        def guest(vcpu: core.Vcpu) -> None:
            raised.append(vcpu.wait_interrupt(0b1010, None))
            vcpu.store(0x5000, 1, 1)
            raised.append(vcpu.wait_interrupt(1 << 63, None))
            raised.append(vcpu.wait_interrupt(0b0110, 0))

        pair.start(guest)
        pair.handle.enter()
        pair.handle.set_irq(2, True)
        assert pair.handle.wait(0, False) == Ended.TIMED_OUT
        pair.handle.set_irq(3, True)
        assert pair.this_exit()[1] == 0x5000
        pair.handle.set_irq(3, False)
        pair.handle.set_irq(63, True)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert raised == [0b1000, 1 << 63, 0b0100]


@POLICIES
def test_waiting_for_an_interrupt_ends_after_its_timeout(policy: WaitPolicy) -> None:
    """With 0, also at once for a timeout of 0, and without any exit."""
    with Pair(policy) as pair:
        assert pair.vcpu.wait_interrupt(1, 0) == 0
        assert pair.vcpu.wait_interrupt(1, 0.002) == 0
        pair.handle.set_irq(0, True)
        assert pair.vcpu.wait_interrupt(3, None) == 1
        assert pair.vcpu.exits == 0


def test_waiting_for_an_interrupt_publishes_first() -> None:
    """The guest may wait for the effect of its own queued write."""
    with Pair(WaitPolicy.POLL) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x1000, 1, 1)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        assert pair.handle.wait(LIMIT, True) == Ended.RING_FILLED
        assert [e.value for e in pair.drain()] == [1]
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


@POLICIES
def test_a_kick_interrupts_a_halted_guest(policy: WaitPolicy) -> None:
    """It exits with KVM_EXIT_INTR, and goes on waiting when it is entered again."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.wait_interrupt(1, None))
        pair.handle.enter()
        for _ in range(5):
            pair.handle.kick()
            assert pair.this_exit()[0] == abi.KVM_EXIT_INTR
            pair.handle.enter()
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_interrupt_lines_are_0_to_63() -> None:
    """The message names the limits."""
    with Pair() as pair, pytest.raises(ValueError, match="line of 0 to 63, got 64"):
        pair.handle.set_irq(64, True)


@POLICIES
def test_requests_are_served_while_the_guest_is_stopped(policy: WaitPolicy) -> None:
    """Before the first entry, during an exit, and in the guest's thread; each exactly once."""
    served: list[int] = []
    done = threading.Semaphore(0)

    def serve() -> None:
        served.append(threading.get_ident())
        done.release()

    with Pair(policy, serve=serve) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 3, 0))
        pair.handle.request()
        assert done.acquire(timeout=LIMIT)
        for _ in range(3):
            pair.next_exit()
            pair.handle.request()
            assert done.acquire(timeout=LIMIT)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert len(served) == 4
        assert set(served) != {threading.get_ident()}


def test_an_error_while_serving_ends_the_guest() -> None:
    """An exception of the requests' handler is raised by the guest's operation."""

    def serve() -> None:
        raise CoalescedError("no good")

    with Pair(serve=serve) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.handle.request()
        assert str(pair.join()) == "no good"
        with pytest.raises(PeerDied, match="the guest process ended"):
            pair.next_exit()


def test_a_vcpu_runs_in_one_thread_at_a_time() -> None:
    """A second thread is refused while the first one waits for an answer."""
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        with pytest.raises(RuntimeError, match="in an access already, in another thread"):
            pair.vcpu.store(0x5000, 1, 0)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT


# --- waiting ---


@POLICIES
def test_a_wait_ends_by_its_timeout_while_the_guest_runs_on(policy: WaitPolicy) -> None:
    """Also one of 0 seconds; entries end it only when the ring is watched."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))
        go = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x1000, 1, 1)
            go.wait(LIMIT)

        pair.start(guest)
        pair.handle.enter()
        # Nobody is woken for an entry: who sleeps finds it at the end of the timeout.
        within = LIMIT if policy is WaitPolicy.POLL else 0.005
        tries = 1 if policy is WaitPolicy.POLL else 1000
        assert any(pair.handle.wait(within, True) == Ended.RING_FILLED for _ in range(tries))
        assert pair.handle.wait(0, True) == Ended.RING_FILLED
        assert pair.handle.wait(0.002, False) == Ended.TIMED_OUT
        assert len(pair.drain()) == 1
        assert pair.handle.wait(0, True) == Ended.TIMED_OUT
        assert pair.handle.running
        go.set()
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_blocking_signals_every_exit_and_polling_none() -> None:
    """Bytes on the pipe: one each way per round trip, or never."""
    for policy, each in ((WaitPolicy.BLOCK, 1), (WaitPolicy.POLL, 0)):
        with Pair(policy) as pair:
            pair.run(lambda vcpu: vcpu.fill(0x5000, 1, 50, 0), answer)
            assert pair.vcpu.signals == 51 * each
            assert pair.handle.signals == 51 * each


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_readable_descriptor_ends_the_wait_for_an_exit(policy: WaitPolicy) -> None:
    """Where it is watched; the exit that comes later is not lost."""
    read_end, write_end = os.pipe()
    with Pair(policy) as pair:
        go = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            go.wait(LIMIT)
            vcpu.store(0x5000, 1, 0)

        pair.start(guest)
        pair.handle.watch(read_end)
        pair.handle.enter()
        assert pair.handle.wait(0.001, core.WATCH_DESCRIPTOR) == Ended.TIMED_OUT
        threading.Timer(0.01, os.write, (write_end, b"frame")).start()
        assert pair.handle.wait(LIMIT, core.WATCH_DESCRIPTOR) == Ended.READABLE
        assert pair.handle.wait(0.001, 0) == Ended.TIMED_OUT
        assert pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR) is Ended.READABLE
        os.read(read_end, 10)
        go.set()
        got = pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR)
        assert isinstance(got, tuple)
        assert got[1] == 0x5000
        pair.handle.watch(-1)
        assert pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_readable_descriptor_is_told_although_every_exit_is_there_already(
    policy: WaitPolicy,
) -> None:
    """A guest that polls a register must not keep frames out."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"frame")
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 500, 0))
        pair.handle.watch(read_end)
        told = 0
        for exits in range(1, 501):
            pair.handle.enter()
            while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") < exits:
                os.sched_yield()
            while pair.handle.wait(LIMIT, core.WATCH_DESCRIPTOR) == Ended.READABLE:
                told += 1
        assert 0 < told <= 500, "an exit comes between two of them"
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_moment_that_is_due_is_told_between_exits(policy: WaitPolicy) -> None:
    """Although every exit is there already, and once for every exit at most."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 20, 0))
        due = time.monotonic()
        for exits in range(1, 21):
            pair.handle.enter()
            while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") < exits:
                os.sched_yield()
            assert pair.handle.wait(None, 0, due) == Ended.TIMED_OUT
            assert pair.handle.wait(None, 0, due) == Ended.EXITED
        later = time.monotonic() + LIMIT
        assert pair.handle.run(None, 0, later) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_moment_ends_a_wait_as_a_timeout_does(policy: WaitPolicy) -> None:
    with Pair(policy) as pair:
        go = threading.Event()
        pair.start(lambda _vcpu: go.wait(LIMIT))
        pair.handle.enter()
        for timeout, moment in ((None, 0.01), (LIMIT, 0.01), (0.01, LIMIT), (None, -1e9)):
            assert pair.handle.wait(timeout, 0, time.monotonic() + moment) == Ended.TIMED_OUT
        for wrong, error in ((float("nan"), ValueError), ("soon", TypeError)):
            with pytest.raises(error):
                pair.handle.wait(None, 0, wrong)  # type: ignore[arg-type]
        go.set()


def test_stray_bytes_on_either_pipe_do_no_harm() -> None:
    """A byte only wakes; the words carry the news."""
    with Pair(WaitPolicy.BLOCK) as pair:
        os.write(pair.resume_write, b"x" * 1000)
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 20, 0))
        for n in range(20):
            assert pair.next_exit()[1] == 0x5000 + n
            os.write(pair.resume_write, b"xyz")
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
