"""Asking a card repeatedly whether it can receive."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from coalesced.vmm.loop import Loop, Timer

_SOONEST: Final = 0.001  # seconds
_LATEST: Final = 0.010


class Asking:
    """Calls again and again, at longer and longer intervals, until it is stopped.

    A guest's write that gives its card buffers may wait in the ring until the next exit, and
    nothing reports it. So the ring is drained and the card asked.
    """

    def __init__(self, loop: Loop, ask: Callable[[], None]) -> None:
        self._loop = loop
        self._ask = ask
        self._interval = _SOONEST
        self._timer: Timer | None = None

    def later(self) -> None:
        """Ask again in a while, unless that is to happen already."""
        if self._timer is None:
            self._timer = self._loop.call_at(time.monotonic() + self._interval, self._now)

    def stop(self) -> None:
        """There is nothing to ask for, at present."""
        self._interval = _SOONEST
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> None:
        self._timer = None
        self._interval = min(2 * self._interval, _LATEST)
        self._ask()
