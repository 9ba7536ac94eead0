"""Signals kept off what must not be given up halfway, whatever a handler raises."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[None]:
    """Let no signal reach this thread for a while; those that come meanwhile do so afterwards.

    What a handler raises comes out of the beginning, before the body has run, or out of the end,
    when it is done.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        # Python calls the handlers of what came before this in here.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def let_in() -> Iterator[None]:
    """Let all signals reach this thread again for a while."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hold_handlers() -> None:
    """Have no handler called in this thread any more; what those that were due raise is dropped."""
    while True:
        try:
            with_handler = [n for n in signal.valid_signals() if callable(signal.getsignal(n))]
            signal.pthread_sigmask(signal.SIG_BLOCK, with_handler)
        except BaseException:
            continue
        return


def inherit_properly() -> None:
    """Wait for child processes, also when whoever started this one ignores the end of its own."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
