"""Accesses that reach one region, from the guest's exit to its next entry (exits.c)."""

from collections.abc import Callable
from typing import final

from coalesced.devices.bus.region import ReadHandler, WriteHandler
from coalesced.devices.bus.tally import Tally
from coalesced.hv.core import VcpuHandle, VcpuHandles
from coalesced.hv.outcome import Exit, Outcome
from coalesced.vmm.counters import Counters
from coalesced.vmm.loop import Entry
from coalesced.vmm.tracing import Observer

Flat = (
    tuple[int, int, int, ReadHandler, WriteHandler]
    | tuple[int, int, int, ReadHandler, WriteHandler, Callable[[], int], Callable[[], int]]
)
"""First and last address, the region's base, and its handlers. Of a device with a ring of its own
also how many writes wait in that, and what brings them to the device."""

@final
class Exits:
    """Carries out exits that need no attention, as `Dispatcher.handle` does all of them.

    These are accesses within one region while nobody observes. Counts reach the counters and
    tallies by `settle`, and when `run` returns.
    """

    def __new__(
        cls,
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

        `watch`: `hv.core.WATCH_*` bits. TIMED_OUT is also returned after `stop` and after a change
        of the tables. Raises as `VcpuHandle.run` and `raised`.
        """
    def settle(self) -> None:
        """Add what was counted since to the counters and tallies."""
    def stop(self) -> None:
        """Have a run that is under way return after the exit at hand."""
    def map(self, port: bool, flat: list[Flat], /) -> None:
        """Set what answers memory or ports, in ascending order."""
    def zones(self, port: bool, edges: list[int], /) -> None:
        """Set the coalesced zones, in ascending order: starts and ends alternate."""
