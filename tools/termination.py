"""SIGTERM and SIGHUP: all is given back as after Ctrl-C, then the signal ends the program."""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)

_came = 0


def watch() -> None:
    """Raise KeyboardInterrupt when one comes, unless it is ignored, as under nohup."""
    # The first to be registered is the last to be called: multiprocessing, too, has cleaned up.
    atexit.register(_die)
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def let_go() -> None:
    """From now on one of them ends this process at once."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or _came:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    global _came  # noqa: PLW0603 - one per program
    _came = number
    for each in _SIGNALS:  # a second one must not end what the first one began
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die() -> None:
    """Let whoever waits for this process see that the signal ended it."""
    if _came:
        signal.signal(_came, signal.SIG_DFL)
        os.kill(os.getpid(), _came)
