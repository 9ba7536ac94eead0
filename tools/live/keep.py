"""Keeps the accesses of the last minute as a trace, while that is wanted."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from coalesced.tools.live.link import SCREEN_BYTES
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import Tracer

_SECONDS: Final = 60


class Keep:
    """The lines of the last minute, as many as fit into the memory that is shared."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tracer = Tracer(self, machine.memory, machine.ports)
        self._lines: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self.on = False
        """Whether accesses are kept, which takes time of each."""

    def turn(self, on: bool) -> None:
        """Keep accesses from now on, or no more; what was kept stays."""
        if on != self.on:
            self.on = on
            (self._machine.observe if on else self._machine.ignore)(self._tracer)

    def write(self, text: str, /) -> None:
        """Take a line of the tracer."""
        now, line = time.monotonic(), text.encode()
        self._lines.append((now, line))
        self._size += len(line)
        while self._size > SCREEN_BYTES or self._lines[0][0] < now - _SECONDS:
            self._size -= len(self._lines.popleft()[1])

    def trace(self) -> bytes:
        """The trace, as `replay` reads it."""
        return b"".join(line for _, line in self._lines)
