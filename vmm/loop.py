"""The run loop: exits of the guest, timers, and descriptors that become readable."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable


class Timer:
    """A call due at a time; `cancel` takes it back."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Timers and readable descriptors, served between the exits of the guest.

    Times are seconds of time.monotonic().
    """

    def __init__(self) -> None:
        self.timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._selector: selectors.BaseSelector | None = None
        self._readers: dict[int, Callable[[], None]] = {}
        self.has_readers = False  # is there more to wait for than the guest and timers?

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call once at or after `due`."""
        timer = Timer(due, call)
        heapq.heappush(self.timers, (due, next(self._order), timer))
        return timer

    def call_every(self, period: float, call: Callable[[], None]) -> None:
        """Call every `period` seconds, first one period from now; late calls are not made up."""

        def again() -> None:
            call()
            self.call_at(time.monotonic() + period, again)

        self.call_at(time.monotonic() + period, again)

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        """Call whenever `fd` is readable."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)
        self._readers[fd] = call
        self.has_readers = True

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`; raises KeyError when it is not watched."""
        del self._readers[fd]
        self.has_readers = bool(self._readers)
        assert self._selector is not None
        self._selector.unregister(fd)

    def timeout(self) -> float | None:
        """Seconds until the next timer, 0 when one is due, None when there is none."""
        while self.timers and self.timers[0][2].call is None:
            heapq.heappop(self.timers)
        if not self.timers:
            return None
        return max(0.0, self.timers[0][0] - time.monotonic())

    def run_timers(self) -> None:
        """Make the calls that are due."""
        while self.timers:
            due, _, timer = self.timers[0]
            if timer.call is not None and due > time.monotonic():
                return
            heapq.heappop(self.timers)
            if timer.call is not None:
                timer.call()

    def select(self, also: tuple[int, ...], timeout: float | None) -> None:
        """Serve readable descriptors, waiting at most `timeout` seconds for the first.

        `also`: more descriptors that end the wait.
        """
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        for fd in also:
            self._selector.register(fd, selectors.EVENT_READ)
        try:
            ready = self._selector.select(timeout)
        finally:
            for fd in also:
                self._selector.unregister(fd)
        for key, _ in ready:
            call = self._readers.get(key.fd)
            if call is not None:
                call()

    def close(self) -> None:
        """Give the selector back."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
