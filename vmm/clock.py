"""The clock of the devices: real time, until it is stepped."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from coalesced.vmm.loop import Loop, Timer

_NS = 1_000_000_000

TimerFailed = Callable[[Callable[[], None], BaseException], None]


def _raise(_call: Callable[[], None], error: BaseException) -> None:
    raise error


class Clock:
    """QEMU's virtual clock: nanoseconds since the start of the machine.

    It runs with real time; after the first `step` or `set` it moves by those only.
    """

    def __init__(self, loop: Loop, failed: TimerFailed = _raise) -> None:
        """`failed(call, error)` is called for a call that raised; Ctrl-C is not caught."""
        self._loop = loop
        self._failed = failed
        self._start = time.monotonic_ns()
        self._stopped_at: int | None = None
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._alarms: list[int] = []  # when the loop will call, the soonest last

    def now(self) -> int:
        """Nanoseconds."""
        if self._stopped_at is None:
            return time.monotonic_ns() - self._start
        return self._stopped_at

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        """Call once when the clock has reached `due` nanoseconds, never before this returns."""
        timer = Timer(due / _NS, call)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        self._set_alarm()
        return timer

    def deadline(self) -> int | None:
        """Time of the next timer, in nanoseconds; None without one."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self, nanoseconds: int | None = None) -> int:
        """Advance by that, by default to the next timer; returns the new time."""
        now = self.now()
        if nanoseconds is None:
            due = self.deadline()
            nanoseconds = 0 if due is None else max(0, due - now)
        return self.set(now + nanoseconds)

    def set(self, nanoseconds: int) -> int:
        """Advance to a time, timer by timer; it never goes back. Returns the new time."""
        now = self._stopped_at = self.now()
        while (due := self.deadline()) is not None and due <= nanoseconds:
            self._stopped_at = now = max(now, due)
            self._run_due()
        self._stopped_at = max(now, nanoseconds)
        return self._stopped_at

    def _run_due(self) -> None:
        """Make the calls that are due by now, not those that fall due meanwhile."""
        now = self.now()
        while (due := self.deadline()) is not None and due <= now:
            timer = heapq.heappop(self._timers)[2]
            call = timer.call
            if call is None:
                continue
            try:
                call()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._failed(call, error)

    def _set_alarm(self) -> None:
        """In real time the loop makes the calls: only the earliest timer is armed.

        The alarm of a cancelled timer does nothing.
        """
        due = self.deadline() if self._stopped_at is None else None
        if due is not None and not (self._alarms and self._alarms[-1] <= due):
            self._alarms.append(due)
            self._loop.call_at((self._start + due) / _NS, self._ring)

    def _ring(self) -> None:
        # It may come too early, since the loop's time is rounded: then there is another.
        self._alarms.pop()
        try:
            self._run_due()
        finally:
            self._set_alarm()
