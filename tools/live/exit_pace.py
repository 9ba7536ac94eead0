"""Holds a guest that is machine code: the VMM lets its exits wait."""

from __future__ import annotations

from typing import Final, cast

from coalesced.tools.live.turns import Turns
from coalesced.vmm.accel.base import Processor
from coalesced.vmm.machine import Machine

_LOOK_AGAIN: Final = 0.1  # seconds after which the process of a held guest is looked at


class ExitPace(Turns):
    """Holds the guest at its exits: between two of them it runs freely, and queues writes.

    What was queued before an exit is still in the ring while that exit waits.
    """

    def __init__(self, machine: Machine) -> None:
        """The accelerator of the machine is a `Processor`."""
        super().__init__()
        self._loop = machine.loop
        self._processor = cast(Processor, machine.accel)
        machine.hold_exits(self._hold_exit)

    def run(self) -> None:
        """Let the guest run at full speed."""
        self.rate, self._wanted, self.free = None, 0, True

    def hold(self, rate: float | None = None) -> None:
        """Hold the guest at its next exit, or let `rate` exits a second go."""
        self.rate, self._wanted, self.free = rate, 0, False

    def step(self, count: int = 1) -> None:
        """Let a held guest make `count` exits."""
        self.hold()
        self._wanted = count

    def close(self) -> None:
        """Do nothing: this pace holds no resource."""

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
        turn = self._turn()
        return _LOOK_AGAIN if turn is None else turn
