"""Accesses on their way to the devices: exits (exits.c), and batches of writes (routes.c)."""

from collections.abc import Callable
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.region import ReadHandler, RunHandler, WriteHandler
from coalesced.devices.bus.tally import Tally
from coalesced.hv.core import Consumer, VcpuHandle, VcpuHandles
from coalesced.hv.outcome import Exit, Outcome
from coalesced.vmm.counters import Counters
from coalesced.vmm.loop import Entry
from coalesced.vmm.tracing import Observer

Entries = Consumer | NDArray[np.void]
"""A batch of KVM_COALESCED_MMIO: what was peeked last, or an array."""

OwnQueue = tuple[Callable[[], int], Callable[[], int]] | tuple[None, None]
"""Of a device with a ring of its own: how many writes wait there, and what brings them to it."""

Flat = tuple[
    int,
    int,
    int,
    ReadHandler,
    WriteHandler,
    RunHandler | None,
    Callable[[], int] | None,
    Callable[[], int] | None,
]
"""First and last address, the region's base, its handlers, and an `OwnQueue`."""

SHORTEST_RUN: Final = 8
"""Writes in a row to one region from which on it is offered a run."""
SINGLE_WRITES: Final = 4
"""Single writes between two calls of `between`."""

@final
class Routes:
    """Where accesses of memory and ports go, and batches of writes carried out by it."""

    done: int
    """Of a batch, how many of its writes are done when `write` returns or raises."""

    def __new__(
        cls,
        other: Callable[[bool, int, int, int], object],
        failed: Callable[[bool, int, int, int, BaseException], object],
    ) -> Routes:
        """`other`: carries out a write that several regions answer, or none: port?, address, size,
        value. `failed`: takes these and what a handler raised; what it raises ends the batch.
        After Ctrl-C it counts the write in `done` if its handler had begun."""
    def write(
        self, entries: Entries, start: int, stop: int, between: Callable[[], object], /
    ) -> tuple[int, int, bool, RunHandler, int, int, tuple[int, int]] | None:
        """Carry out the writes [start, stop) one by one, as far as the next run.

        That is returned, None behind the last write: its start and stop, whether it goes to ports,
        its region's handler and base, the size of all its writes, 0 where they differ, the lowest
        address and that of the last byte, both from the base on.

        Raises ValueError for what is no entry.
        """
    def map(self, port: bool, flat: list[Flat], /) -> None:
        """Set what answers memory or ports, in ascending order."""
    def zones(self, port: bool, edges: list[int], /) -> None:
        """Set the coalesced zones, in ascending order: starts and ends alternate."""

@final
class Exits:
    """Carries out exits that need no attention, as `Dispatcher.handle` does all of them.

    These are accesses within one region while nobody observes. Counts reach the counters and
    tallies by `settle`, and when `run` returns.
    """

    def __new__(
        cls,
        routes: Routes,
        counters: Counters,
        tallies: tuple[Tally, ...],
        observers: list[Observer],
        timers: list[Entry],
        flush: Callable[[], int],
        raised: Callable[[Exit, BaseException], None],
    ) -> Exits:
        """`tallies`: by reason, as `dispatch.REASONS` lists them. `raised`: reports a handler that
        raised, or raises what ends the run."""
    def run(self, handles: VcpuHandle | VcpuHandles, watch: int, /) -> Outcome:
        """Enter the guest, wait and carry out exits until one is the machine's to handle.

        `watch`: `hv.core.WATCH_*` bits. TIMED_OUT is also returned after `stop`. Raises as
        `VcpuHandle.run` and `raised`.
        """
    def settle(self) -> None:
        """Add what was counted since to the counters and tallies: slow after many addresses."""
    def waiting(self) -> tuple[int, ...]:
        """Add the writes counted since to the counters; return, by reason, how many exits the
        tallies do not have yet."""
    def stop(self) -> None:
        """Have a run that is under way return after the exit at hand."""
