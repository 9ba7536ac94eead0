"""Keeps the accesses of the last minute, while that is wanted."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.tools.live.link import SCREEN_BYTES
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import Tracer

_SECONDS: Final = 60


class Kept(NamedTuple):
    """A line, when its access reached the devices (monotonic ns), and the queued writes from it on.

    `left` is 0 for an access that exited.
    """

    time: int
    left: int
    line: bytes


@dataclass
class Keep:
    """The lines of the last minute, as many as fit into the memory that is shared."""

    machine: Machine
    on: bool = False
    """Whether accesses are kept, which takes time of each."""

    def __post_init__(self) -> None:
        self._tracer = Tracer(self, self.machine.memory, self.machine.ports)
        self._lines: deque[Kept] = deque()
        self._size = 0
        self._left = 0

    def turn(self, on: bool) -> None:
        """Start or stop keeping accesses; those that were kept stay."""
        if on != self.on:
            self.on = on
            (self.machine.observe if on else self.machine.ignore)(self)

    def access(self, kind: str, space: AddressSpace, address: int, size: int, value: int) -> None:
        """An access that exited."""
        self._tracer.access(kind, space, address, size, value)

    def batch(self, entries: NDArray[np.void]) -> None:
        """Writes out of the ring."""
        self._left = len(entries)
        self._tracer.batch(entries)

    def write(self, text: str, /) -> None:
        """Take a line of the tracer."""
        now, line = time.monotonic_ns(), text.encode()
        self._lines.append(Kept(now, self._left, line))
        self._left -= self._left > 0
        self._size += len(line)
        while self._size > SCREEN_BYTES or self._lines[0].time < now - _SECONDS * 10**9:
            self._size -= len(self._lines.popleft().line)

    def kept(self) -> list[Kept]:
        """The accesses kept, the oldest first."""
        return list(self._lines)

    def trace(self) -> bytes:
        """The lines as a trace, which `replay` reads."""
        return b"".join(kept.line for kept in self._lines)

    def stamped(self) -> bytes:
        """The lines, each behind its time and the number of queued writes from it on.

        Of more than fit into the shared memory the oldest are left out.
        """
        lines = b"".join(b"%d %d %b" % kept for kept in self._lines)
        if len(lines) <= SCREEN_BYTES:
            return lines
        return lines[lines.index(b"\n", -SCREEN_BYTES) + 1 :]
