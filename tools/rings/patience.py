"""Tells processes that hang from processes that wait for a CPU on a busy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

HANG = 3.0  # seconds without a call that returns
_AT_REST = 0.1  # seconds without a move, after which CPU time is looked up, and counts
_ENOUGH = 1.0  # seconds of CPU time in which a process that works would have moved
_TICKS = os.sysconf("SC_CLK_TCK")


def state_of(pid: int) -> tuple[int, str, float]:
    """State ('X' if it has ended) and CPU seconds of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return pid, "X", 0.0
    return pid, fields[0].decode(), (int(fields[11]) + int(fields[12])) / _TICKS


class Patience:
    """Ends HANG seconds after the last move, but not while a process has had no CPU to move on."""

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        clock: Callable[[], float] = time.monotonic,
        state: Callable[[int], tuple[int, str, float]] = state_of,
    ) -> None:
        """`pids`: the processes that are to move, as of the call; `state`: as `state_of`."""
        self._pids, self._clock, self._state = pids, clock, state
        self._seen: object = None
        self._begin()

    def _begin(self) -> None:
        self._began = self._clock()
        self._before: dict[int, float] | None = None

    def _used(self) -> dict[int, float]:
        return {pid: used for pid, _, used in map(self._state, self._pids())}

    def over(self, seen: object = None) -> bool:
        """Whether the processes hang. `seen`: a value that changes when they move."""
        if seen != self._seen:
            self._seen = seen
            self._begin()
        waited = self._clock() - self._began
        if self._before is None and waited >= _AT_REST:
            self._before = self._used()
        if self._before is None or waited < HANG:
            return False
        for pid, state, used in map(self._state, self._pids()):
            if state in "RD" and used - self._before.get(pid, used) < _ENOUGH:
                self._began = self._clock()
                return False
        return True
