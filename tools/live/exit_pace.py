"""Holds a guest that is machine code: the VMM lets its exits wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

from coalesced.vmm.accel.base import Processor
from coalesced.vmm.machine import Machine

_LOOK_AGAIN: Final = 0.1  # seconds after which the process of a held guest is looked at


class ExitPace:
    """Holds the guest at its exits: between two of them it runs freely, and queues writes.

    What was queued before an exit is still in the ring while that exit waits.
    """

    def __init__(self, machine: Machine) -> None:
        """The accelerator of the machine is a `Processor`."""
        self._loop = machine.loop
        self._processor = cast(Processor, machine.accel)
        self.waiting = False
        """Whether the guest waits for the answer to an exit."""
        self.free = False
        """Whether it runs at full speed."""
        self.rate: float | None = None
        """Exits a second while it is held; None: only those of `step`."""
        self.taken = 0
        """Exits that were let go one by one."""
        self.on_step: Callable[[], None] = lambda: None
        """Called when an exit begins to wait."""
        self._wanted = 0
        self._due = 0.0
        machine.hold_exits(self._hold_exit)

    def run(self) -> None:
        """Let the guest run at full speed."""
        self.rate, self._wanted, self.free = None, 0, True

    def hold(self, rate: float | None = None) -> None:
        """Hold the guest at its next exit, or let `rate` exits a second go."""
        self.rate, self._wanted, self.free = rate, 0, False

    def step(self, count: int = 1) -> None:
        """Let so many exits of a held guest go."""
        self.hold()
        self._wanted = count

    def close(self) -> None:
        """There is nothing to give back."""

    def _hold_exit(self) -> None:
        """Serve the page until the exit that waits may be answered. Raises PeerDied."""
        if self.free:
            return
        loop = self._loop
        self.waiting = True
        self.on_step()
        while (patience := self._patience()) > 0:
            timeout = loop.timeout()
            loop.wait(patience if timeout is None else min(patience, timeout))
            loop.run_timers()
            self._processor.check_alive()
        self.waiting = False
        self.taken += not self.free

    def _patience(self) -> float:
        """Seconds that the exit has to wait at least; 0: it may be answered, and that counts."""
        if self.free:
            return 0.0
        now = time.monotonic()
        if self.rate is not None:
            if now < self._due:
                return self._due - now
            self._due = now + 1 / self.rate
            return 0.0
        if not self._wanted:
            return _LOOK_AGAIN
        self._wanted -= 1
        return 0.0
