"""Handing frames to a card: one delivery at a time, repeated while the card takes none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from coalesced.devices.bus.device import Card
from coalesced.vmm.loop import Timer
from coalesced.vmm.netdev.host import Host

_SOONEST: Final = 0.001  # seconds
_LATEST: Final = 0.010


class Delivery:
    """Calls `deliver` again and again, at longer and longer intervals, until it is stopped.

    A guest's write that gives its card buffers may wait in the ring until the next exit, and
    nothing reports it. So the ring is drained and the card asked. As a context manager it marks a
    delivery that is running.
    """

    def __init__(self, host: Host, deliver: Callable[[], None]) -> None:
        self.running = False
        self._host = host
        self._deliver = deliver
        self._interval = _SOONEST
        self._timer: Timer | None = None

    def __enter__(self) -> None:
        self.running = True

    def __exit__(self, *_: object) -> None:
        self.running = False

    def flush(self, card: Card) -> None:
        """Bring queued writes to the card, which may ask for frames while it handles them."""
        self.running = False
        try:
            self._host.flush(card)
        finally:
            self.running = True

    def repeat_later(self) -> None:
        """Deliver again in a while, unless that is to happen already."""
        if self._timer is None:
            self._timer = self._host.loop.call_at(time.monotonic() + self._interval, self._now)

    def stop(self) -> None:
        """Cancel the repetition."""
        self._interval = _SOONEST
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> None:
        self._timer = None
        self._interval = min(2 * self._interval, _LATEST)
        self._deliver()
