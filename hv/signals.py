"""Signals kept out of code that must not be left halfway by an exception of a handler."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

FAULTS: Final = frozenset(
    {signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)
"""Signals of an instruction of the thread itself. One that comes while it is blocked ends the
process; an access to a segment that the peer has truncated gives SIGBUS."""
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that end this program after it has released everything."""
_mask: Final = _signal.pthread_sigmask
"""Not signal's: that makes a member of an enum of each signal, 10 ms in the start of a machine, and
is a function in Python, in whose beginning handlers may raise."""
_HELD: Final = [int(number) for number in signal.valid_signals() - FAULTS]
block_all: Final = functools.partial(_mask, signal.SIG_BLOCK, _HELD)
"""Block every signal but FAULTS in this thread, also when a handler of an earlier one raises here.

Called in a `try` that follows the `except` of a handler's exception at once, it lets no second one
out.
"""


@contextmanager
def held() -> Iterator[None]:
    """Let no signal but FAULTS reach this thread in the block; others arrive after it.

    An exception of a handler is raised at the beginning, before the body has run, or at the end,
    after it.
    """
    before = _mask(signal.SIG_BLOCK, [])
    try:
        # Python calls the handlers of earlier signals in here.
        _mask(signal.SIG_BLOCK, _HELD)
        yield
    finally:
        _mask(signal.SIG_SETMASK, before)


@contextmanager
def deferred(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Call the handlers of these signals after the block, whichever thread the signals reach.

    Python calls a handler in the main thread also for a signal that this thread blocks, when
    another thread does not. In another thread this does nothing: no handler is called there.
    """
    import threading  # noqa: PLC0415 - half a millisecond of each start of a guest process

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: dict[int, None] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        came[number] = None

    def deliver() -> None:
        for number in came:
            signal.raise_signal(number)

    with ExitStack() as stack:
        stack.callback(deliver)
        for number in numbers:
            if callable(handler := signal.getsignal(number)):
                stack.callback(signal.signal, number, handler)
                signal.signal(number, note)
        yield


@contextmanager
def let_in() -> Iterator[None]:
    """Let all signals reach this thread again for a while."""
    before = _mask(signal.SIG_SETMASK, [])
    try:
        yield
    finally:
        _mask(signal.SIG_SETMASK, before)


def hold_handlers() -> None:
    """Call no handler in this thread any more; other signals are unblocked.

    Exceptions of handlers that were due are dropped. One that a handler raises before this begins
    is the caller's, unless it has called `block_all`.
    """
    try:  # noqa: SIM105 - as its callers have it
        block_all()
    except BaseException:
        pass
    _mask(signal.SIG_SETMASK, [n for n in _HELD if callable(_signal.getsignal(n))])


def inherit_properly() -> None:
    """Undo inherited settings that would break this program.

    Child processes can be waited for, also when the parent ignores the end of its own; no signal
    that ends a program or reports a fault stays blocked.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING | FAULTS | {signal.SIGCHLD})
