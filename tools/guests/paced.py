"""Runs a guest that can be held before an access, and let go one access at a time.

While the guest runs freely, nothing lies between it and its vCPU. A signal makes it wait at a
gate before each access, where its vCPU sleeps as in a halt: the VMM can still stop it and send
requests. One of two interrupt lines opens the gate for one access, in turn; both let the guest run
freely again. A pipe carries what the guest does back to the VMM.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from coalesced.hv import guest
from coalesced.hv.vcpu import Vcpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from coalesced.hv.vcpu import Bus

LINES: Final = (62, 63)
"""Interrupt lines that open the gate; a PC has none above 23."""
HOLD: Final = signal.SIGRTMIN + 10
"""The signal that holds the guest before its next access."""
WAITS: Final = b"w"
"""Sent when the guest waits at the gate."""
TAKES: Final = b"t"
"""Sent when it goes through for one access."""
_BOTH: Final = 1 << LINES[0] | 1 << LINES[1]
_CHUNK: Final = 4096  # operations of a bulk call between two looks at signals


def run(vcpu: Vcpu, name: str, arguments: dict[str, object], told: str) -> None:
    """Run the guest `name`, held before its first access; `told`: the path of the pipe."""
    pace = _Pace(vcpu.bus, os.open(told, os.O_WRONLY))
    signal.signal(HOLD, lambda *_: pace.hold())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [HOLD])
    guest.load(name)(pace.vcpu, **arguments)


class _Pace:
    """The gate, and the vCPU of the guest behind it."""

    def __init__(self, bus: Bus, told: int) -> None:
        self._bus = bus
        self._told = told
        self._steps = 0
        self._held: Bus = _Held(self, bus)
        self._free: Bus = _Free(self, bus)
        self.held = True
        self.vcpu = Vcpu(self._held)

    def hold(self) -> None:
        """Let each access from the next one on wait at the gate."""
        self.held = True
        self.vcpu.use(self._held)

    def wait(self) -> None:
        """Wait until the gate opens: for one access, or for all, then `held` is False."""
        os.write(self._told, WAITS)
        self._bus.wait_interrupt(1 << LINES[self._steps & 1], None)
        if self._bus.wait_interrupt(_BOTH, 0) == _BOTH:
            self.held = False
            self.vcpu.use(self._free)
            return
        self._steps += 1
        os.write(self._told, TAKES)

    def piece(self, left: int) -> int:
        """Number of the `left` operations of a bulk call that may run now."""
        if self.held:
            self.wait()
        return 1 if self.held else min(left, _CHUNK)


class _Free:
    """A bus whose bulk calls run in pieces, with signals taken between two of them."""

    def __init__(self, pace: _Pace, bus: Bus) -> None:
        self._pace = pace
        self._bus = bus
        self.load = bus.load
        self.store = bus.store
        self.in_ = bus.in_
        self.out = bus.out
        self.read_memory = bus.read_memory
        self.write_memory = bus.write_memory

    def wait_interrupt(self, lines: int, timeout: float | None, /) -> int:
        """The lines of the gate are no interrupts of the guest."""
        return self._bus.wait_interrupt(lines & ~_BOTH, timeout)

    def execute(self, ops: NDArray[np.void], /) -> None:
        for at, count in self._pieces(len(ops)):
            self._bus.execute(ops[at : at + count])

    def store_many(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64], /
    ) -> None:
        for at, count in self._pieces(len(addresses)):
            self._bus.store_many(addresses[at : at + count], size, values[at : at + count])

    def fill(self, address: int, size: int, count: int, value: int, /) -> None:
        for at, piece in self._pieces(count):
            self._bus.fill(address + at * size, size, piece, value)

    def _pieces(self, total: int) -> Iterator[tuple[int, int]]:
        """(first operation, number of operations) of each piece of a bulk call."""
        at = 0
        while at < total:
            count = self._pace.piece(total - at)
            yield at, count
            at += count


class _Held(_Free):
    """A bus whose every access waits at the gate."""

    def __init__(self, pace: _Pace, bus: Bus) -> None:
        super().__init__(pace, bus)
        self.load = self._load
        self.store = self._store
        self.in_ = self._in
        self.out = self._out

    def _load(self, address: int, size: int, /) -> int:
        self._pace.wait()
        return self._bus.load(address, size)

    def _store(self, address: int, size: int, value: int, /) -> None:
        self._pace.wait()
        self._bus.store(address, size, value)

    def _in(self, port: int, size: int, /) -> int:
        self._pace.wait()
        return self._bus.in_(port, size)

    def _out(self, port: int, size: int, value: int, /) -> None:
        self._pace.wait()
        self._bus.out(port, size, value)
