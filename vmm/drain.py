"""From the ring to the devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv.errors import PeerDied
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.ring import Consumer
from coalesced.vmm.access import Accesses, DrainGivenUp
from coalesced.vmm.counters import Counters

TURN = 0.02  # seconds of a batch after which timers run
RUNS_KEPT = 64  # of a ring


@dataclass(eq=False, slots=True)
class Queue:
    """A ring, and what came out of it so far."""

    ring: Consumer
    name: str = "vm"
    own: OwnRing | None = None  # of a device's own
    device: str = ""
    posted: bool = False  # a posted zone names it
    coalesced: int = 0  # writes
    drains: int = 0  # that found any
    wakeups: int = 0  # reports of the descriptor
    busy: bool = False  # being drained
    underway: int = 0  # writes of the batch that is being carried out
    shown: int = 0  # of those left by a drain that was cut off: the observers have seen them
    runs: dict[int, WriteRun] = field(default_factory=dict)  # whole batches by their length

    def look(self) -> NDArray[np.void]:
        """The queued entries, which stay, until the next peek or look: `peek` without what it does
        to an own ring's descriptor. Amid a batch: its entries, which a peek would copy anew."""
        if self.underway:
            return self.ring.batch(self.underway)
        return self.ring.peek() if self.own is None else self.own.look()

    def run_of(
        self, start: int, stop: int, base: int, size: int, span: tuple[int, int]
    ) -> WriteRun:
        """Writes of the last peek as a run, see `access.RunOf`; until the next of either."""
        ring = self.ring
        ring.rebase(base, start, stop)
        run = None if start else self.runs.get(stop)
        if run is None:
            part = slice(start, stop)
            run = WriteRun(ring.offsets[part], ring.sizes[part], ring.data[part], size, span)
            if not start:
                # Lengths repeat, of full rings and of bursts; to make a run takes as long as
                # dozens of writes.
                if len(self.runs) == RUNS_KEPT:
                    self.runs.clear()
                self.runs[stop] = run
        run.size, run.span = size, span
        return run


class Drain:
    """Brings queued writes to their devices, in the guest's order within each ring."""

    def __init__(
        self,
        ring: Consumer | None,
        accesses: Accesses,
        counters: Counters,
        run_timers: Callable[[], None],
    ) -> None:
        """`ring` None: nothing is ever queued. A drain that lasts calls `run_timers` meanwhile."""
        self.common = None if ring is None else Queue(ring)
        self.own: list[Queue] = []  # of devices, in the order in which they were made
        self.current: Queue | None = None  # being drained
        self._accesses = accesses
        self._counters = counters
        self._run_timers = run_timers
        self._death: PeerDied | None = None  # of the guest, found amid a drain
        self._turn_ends = math.inf  # of the batch under way; 0: it has just begun
        self._give_up_at = math.inf
        accesses.between_runs = self._look_around
        accesses.died = self.found_dead

    @property
    def queues(self) -> list[Queue]:
        """The VM's, then the own ones."""
        return self.own if self.common is None else [self.common, *self.own]

    def flush(self) -> int:
        """Bring every queued write to its device now; returns how many there were.

        The VM's ring goes first, then each own one. When a device triggers this while a ring is
        being drained it does nothing: the outer drain keeps the order. Entries appended meanwhile
        stay for the next flush, so that a fast guest cannot keep the machine here.
        """
        return self.flush_some(self.queues)

    def flush_some(self, queues: Iterable[Queue | None]) -> int:
        """The same for some rings, in this order."""
        if self.current is not None:
            return 0
        drained = sum(self._drain(queue) for queue in queues if queue is not None)
        self._report_death()
        return drained

    def flush_common(self) -> int:
        """The same for the VM's ring."""
        if self.common is None or self.current is not None:
            return 0
        drained = self._drain(self.common)
        self._report_death()
        return drained

    def flush_posted(self) -> int:
        """The same for the rings that posted writes go to, and the VM's."""
        return self.flush_some([self.common, *(queue for queue in self.own if queue.posted)])

    def flush_reported(self, queue: Queue) -> None:
        """The same for a ring whose descriptor is readable."""
        if self.current is None:
            queue.wakeups += 1
            queue.ring.core.answer()
            self.flush_some([queue])

    def flush_before_change(self) -> None:
        """Bring the writes that were queued under the old mappings to their devices.

        A write that is being drained may change them: its ring is left to the outer drain, since
        what follows it there was written after it. The other rings are drained now.
        """
        for queue in self.queues:
            if not queue.busy:
                self._drain(queue)
        if self.current is None:
            self._report_death()

    def found_dead(self, death: PeerDied) -> None:
        """Take note of the guest's death; it is reported after the last write of the drain.

        Raises it when nothing is being drained.
        """
        if self.current is None:
            raise death
        self._death = death

    def _report_death(self) -> None:
        death, self._death = self._death, None
        if death is not None:
            raise death

    def _drain(self, queue: Queue) -> int:
        ring, routes, outer = queue.ring, self._accesses.routes, self.current
        outer_done = routes.done
        self.current = queue
        queue.busy = True
        drained = 0
        try:
            left = 1
            while left and (count := ring.core.peek()):
                queue.underway = count
                routes.done = 0
                try:
                    self._carry_out(queue, count)
                finally:
                    # Writes that Ctrl-C or another exception cut off stay for the next drain.
                    # An entry that breaks the rules ends a batch, and the next peek reports it.
                    # Python calls signal handlers behind a call: the commit is the first one here.
                    done = routes.done
                    queue.underway = 0
                    queue.shown = queue.shown - done if queue.shown > done else 0
                    self._counters.coalesced += done
                    queue.coalesced += done
                    left = ring.commit(done)
                drained += done
        except BaseException:
            if outer is None:
                self._death = None  # this is reported, and the death found again
            raise
        finally:
            queue.busy = False
            self.current = outer
            routes.done = outer_done
        queue.drains += drained > 0
        return drained

    def flush_within(self, seconds: float) -> None:
        """Bring queued writes to their devices; those left after `seconds` stay in the rings."""
        self._give_up_at = time.monotonic() + seconds
        try:
            with suppress(DrainGivenUp):
                self.flush()
        finally:
            self._give_up_at = math.inf

    def _look_around(self) -> None:
        """Run timers once in a turn: a ring full of blits takes half a minute.

        The order of the writes stays, since a flush by a timer is a no-op.
        """
        now = time.monotonic()
        if now < self._turn_ends:
            return
        if now >= self._give_up_at:
            raise DrainGivenUp
        if self._turn_ends and self._death is None:
            try:
                self._run_timers()
            except PeerDied as error:  # what the guest had published still belongs to the devices
                self._death = error
        self._turn_ends = time.monotonic() + TURN

    def _carry_out(self, queue: Queue, count: int) -> None:
        """Carry out the batch of the last peek."""
        accesses, ring = self._accesses, queue.ring
        if accesses.observers and queue.shown < count:
            for observer in accesses.observers:
                observer.batch(ring.batch(count)[queue.shown :])
        queue.shown = count
        self._turn_ends = 0.0
        accesses.write_batch(ring.entries, count, queue.run_of)
