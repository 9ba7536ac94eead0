"""SIGTERM and SIGHUP: release everything as after Ctrl-C, then die of the signal."""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)

_received = 0


def watch() -> None:
    """Raise KeyboardInterrupt on either signal, unless it is ignored, as under nohup."""
    # Registered first, called last: after the clean-up of multiprocessing.
    atexit.register(_die)
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def let_go() -> None:
    """Let either signal end this process at once from now on."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or _received:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    global _received  # noqa: PLW0603 - one per program
    _received = number
    for each in _SIGNALS:  # a second signal must not interrupt the clean-up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die() -> None:
    """Die of the signal, so that the parent sees it in the exit status."""
    if _received:
        signal.signal(_received, signal.SIG_DFL)
        os.kill(os.getpid(), _received)
