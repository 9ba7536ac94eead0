"""Signals that are held back while a request is carried out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from coalesced.hv import core, signals
from coalesced.hv.errors import SegmentError


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_a_segment_may_be_truncated_while_signals_are_held() -> None:
    """A blocked SIGBUS would end this process at the access."""
    fd = os.memfd_create("truncated")
    os.ftruncate(fd, 4096)
    mapping = core.Mapping([("truncated", fd, 4096)])
    with signals.held():
        os.ftruncate(fd, 0)
        with pytest.raises(SegmentError, match="truncated by another process"):
            mapping.read(0, 8)
    os.close(fd)


def test_only_faults_arrive_while_signals_are_held() -> None:
    before = blocked()
    with signals.held():
        assert blocked() == signal.valid_signals() - signals.FAULTS - {
            signal.SIGKILL,
            signal.SIGSTOP,
        }
    assert blocked() == before


@pytest.fixture
def _another_thread() -> Iterator[None]:
    """One that blocks no signal."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("_another_thread")
def test_handlers_are_deferred_whichever_thread_a_signal_reaches() -> None:
    called, handlers = [], [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)]

    def raises(number: int, _frame: FrameType | None) -> None:
        called.append(number)
        raise InterruptedError

    def interrupt_twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
        called.append(0)

    signal.signal(signal.SIGUSR1, raises)
    try:
        with pytest.raises(InterruptedError), signals.deferred([signal.SIGINT, signal.SIGUSR1]):
            interrupt_twice()
        assert called == [0, signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is raises
        assert signal.getsignal(signal.SIGINT) is handlers[0]
    finally:
        signal.signal(signal.SIGUSR1, handlers[1])


def test_nothing_is_deferred_in_another_thread() -> None:
    handlers = []

    def look() -> None:
        with signals.deferred([signal.SIGINT]):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_signals_that_end_a_program_or_tell_of_a_fault_do_not_stay_blocked() -> None:
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        signals.inherit_properly()
        assert not blocked() & (ending | signals.FAULTS)
        assert signal.SIGUSR1 in blocked()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
