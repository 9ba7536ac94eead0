"""Signals that are held back while a request is carried out."""

from __future__ import annotations

import os
import signal

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


def test_signals_that_end_a_program_or_tell_of_a_fault_do_not_stay_blocked() -> None:
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        signals.inherit_properly()
        assert not blocked() & (ending | signals.FAULTS)
        assert signal.SIGUSR1 in blocked()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
