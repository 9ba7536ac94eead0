"""The run loop: exits of the guest, timers, and descriptors that become ready."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import Final

_READABLE: Final = select.EPOLLIN
_WRITABLE: Final = select.EPOLLOUT
_AT_ONCE: Final = 16  # descriptors served in one go


class Timer:
    """A call due at a time; `cancel` takes it back."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


Entry = tuple[float, int, Timer]
"""A timer in order of its time, then of its making."""


class Loop:
    """Timers and descriptors, served between the exits of the guest.

    Times are seconds of time.monotonic().
    """

    def __init__(self) -> None:
        self.timers: list[Entry] = []
        self._order = itertools.count()
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self.watching = False  # is there more to wait for than the guest and timers?
        self.changed: Callable[[], None] = lambda: None
        """Called after `watching` may have changed."""

    # --- timers ---

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call once at or after `due`."""
        timer = Timer(due, call)
        heapq.heappush(self.timers, (due, next(self._order), timer))
        return timer

    def call_every(self, period: float, call: Callable[[], None]) -> None:
        """Call every `period` seconds, first one period from now; late calls are not made up."""

        def again() -> None:
            try:
                call()
            finally:
                self.call_at(time.monotonic() + period, again)

        self.call_at(time.monotonic() + period, again)

    def timeout(self) -> float | None:
        """Seconds until the next timer, 0 when one is due, None when there is none."""
        while self.timers and self.timers[0][2].call is None:
            heapq.heappop(self.timers)
        if not self.timers:
            return None
        return max(0.0, self.timers[0][0] - time.monotonic())

    def run_timers(self) -> None:
        """Make the calls that are due by now, not those that fall due meanwhile."""
        now = time.monotonic()
        while self.timers:
            due, _, timer = self.timers[0]
            if timer.call is not None and due > now:
                return
            heapq.heappop(self.timers)
            if timer.call is not None:
                timer.call()

    # --- descriptors ---

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        """Call whenever `fd` is readable, or has failed."""
        self._readers[fd] = call
        self._watch(fd, new=fd not in self._writers)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd` for that; raises KeyError when it is not watched."""
        del self._readers[fd]
        self._watch(fd)

    def add_writer(self, fd: int, call: Callable[[], None]) -> None:
        """Call whenever `fd` takes more, or has failed."""
        self._writers[fd] = call
        self._watch(fd, new=fd not in self._readers)

    def remove_writer(self, fd: int) -> None:
        """Stop watching `fd` for that; raises KeyError when it is not watched."""
        del self._writers[fd]
        self._watch(fd)

    def fileno(self) -> int:
        """A descriptor that is readable while `serve` has something to do."""
        return self._epoll.fileno()

    def serve(self) -> None:
        """Make the calls for descriptors that are ready now."""
        for fd, events in self._epoll.poll(0, _AT_ONCE):
            # Any of the calls may take others away.
            if events & ~_WRITABLE and (read := self._readers.get(fd)):
                read()
            if events & ~_READABLE and (write := self._writers.get(fd)):
                write()

    def wait(self, timeout: float | None) -> None:
        """Serve descriptors, waiting at most `timeout` seconds for the first (None: no limit)."""
        self.wait_ready(timeout)
        self.serve()

    def wait_ready(self, timeout: float | None) -> None:
        """Wait at most `timeout` seconds for `serve` to have something to do."""
        # Not epoll itself, which waits in whole milliseconds.
        select.select([self.fileno()], [], [], timeout)

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        self._epoll.close()

    def _watch(self, fd: int, new: bool = False) -> None:
        events = (_READABLE if fd in self._readers else 0) | (
            _WRITABLE if fd in self._writers else 0
        )
        self.watching = bool(self._readers or self._writers)
        self.changed()
        if new:
            self._epoll.register(fd, events)
        elif events:
            self._epoll.modify(fd, events)
        else:
            self._epoll.unregister(fd)
