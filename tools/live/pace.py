"""The VMM's side of a guest that can be held: see `tools.guests.paced`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from coalesced.tools.guests.paced import HOLD, LINES, TAKES
from coalesced.tools.live.turns import Turns
from coalesced.vmm.machine import Machine

_AGAIN: Final = 0.05  # seconds until a guest that does not stop is asked again


class Pace(Turns):
    """Holds the guest, or lets it run: by single accesses, at a rate, or at full speed."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        machine.loop.add_reader(self._told, self._read)

    @property
    def pipe(self) -> str:
        """The path by which the guest process opens the pipe."""
        return f"/proc/{os.getpid()}/fd/{self._tell}"

    def run(self) -> None:
        """Let the guest run at full speed."""
        self.rate, self._wanted, self.free, self.waiting = None, 0, True, False
        for line in LINES:
            self._machine.accel.set_irq(line, True)

    def hold(self, rate: float | None = None) -> None:
        """Hold the guest before its next access, or let it take `rate` accesses a second."""
        self.rate, self._wanted = rate, 0
        if self.free:
            self.free = False
            for line in LINES:
                self._machine.accel.set_irq(line, False)
            self._ask()
        self._take_turn()

    def step(self, count: int = 1) -> None:
        """Let a held guest make a number of accesses."""
        self.hold()
        self._wanted = count
        self._take_turn()

    def close(self) -> None:
        """Give the pipe back, after the machine's loop has ended."""
        os.close(self._told)
        os.close(self._tell)

    def _ask(self) -> None:
        """Send the signal until the guest waits: it may be on its way through the gate."""
        if self.waiting or self.free:
            return
        pid = self._machine.accel.pid
        if pid is not None and _catches(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, HOLD)
        self._machine.loop.call_at(time.monotonic() + _AGAIN, self._ask)

    def _read(self) -> None:
        for byte in os.read(self._told, 4096):
            if byte == TAKES[0]:
                self.taken += 1
                self.waiting = False
            elif not self.free:
                self.waiting = True
                self.on_step()
        self._take_turn()

    def _take_turn(self) -> None:
        """Open the gate if the guest waits there and an access is due."""
        if not self.waiting or self.free:
            return
        if self._turn() != 0:
            return
        if self.rate is not None:
            self._machine.loop.call_at(self._due, self._take_turn)
        self.waiting = False
        odd = self.taken & 1
        self._machine.accel.set_irq(LINES[1 - odd], False)
        self._machine.accel.set_irq(LINES[odd], True)


def _catches(pid: int) -> bool:
    """Whether a process handles HOLD, which would end it otherwise."""
    with suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (HOLD - 1) & 1)
    return False
