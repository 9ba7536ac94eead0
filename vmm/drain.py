"""From the ring to the devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import numpy as np

from coalesced.devices.bus.address_space import SHORTEST_RUN
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv.ring import Consumer
from coalesced.vmm.access import Accesses
from coalesced.vmm.counters import Counters

TURN = 0.02  # seconds of a batch after which timers run
_MEMORY, _MIXED = 1, 3  # kinds of hv.core.Consumer.summary


class DrainGivenUp(Exception):
    """The time for a drain is over."""


class Drain:
    """Brings queued writes to their devices, in the guest's order."""

    def __init__(
        self,
        ring: Consumer | None,
        accesses: Accesses,
        counters: Counters,
        run_timers: Callable[[], None],
    ) -> None:
        """`ring` None: nothing is ever queued. A drain that lasts calls `run_timers` meanwhile."""
        self._ring = ring
        self._accesses = accesses
        self._counters = counters
        self._draining = False
        self._run: _RingRun | None = None  # of the last batch
        self._run_timers = run_timers
        self._turn_ends = math.inf  # of the batch under way; 0: it has just begun
        self._give_up_at = math.inf
        accesses.memory.between_runs = accesses.ports.between_runs = self._look_around

    def flush(self) -> int:
        """Bring every queued write to its device now; returns how many there were.

        When a device triggers this while the ring is being drained it does nothing: the outer drain
        keeps the order. Entries appended meanwhile stay for the next flush, so that a fast guest
        cannot keep the machine here.
        """
        ring = self._ring
        if ring is None or self._draining:
            return 0
        self._draining = True
        drained = 0
        try:
            left = 1
            while left and (count := ring.core.peek()):
                try:
                    self._carry_out(ring, count)
                finally:
                    # An entry that breaks the rules ends a batch, and the next peek reports it.
                    left = ring.commit(count)
                    self._counters.coalesced += count
                drained += count
        finally:
            self._draining = False
        return drained

    def flush_within(self, seconds: float) -> None:
        """Bring queued writes to their devices, and give up those left after `seconds`."""
        self._give_up_at = time.monotonic() + seconds
        with suppress(DrainGivenUp):
            self.flush()
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
        if self._turn_ends:
            self._run_timers()
        self._turn_ends = time.monotonic() + TURN

    def _carry_out(self, ring: Consumer, count: int) -> None:
        """Carry out the batch of the last peek."""
        accesses = self._accesses
        if accesses.observers:
            for observer in accesses.observers:
                observer.batch(ring.batch(count))
        elif count < SHORTEST_RUN:  # arrays would cost more than they save
            self._write_singly(ring.core.entries(count))
            return
        self._turn_ends = 0.0
        size, kinds, span = ring.core.summary()
        run = self._run
        if run is None or len(run.addresses) != count:
            # Full rings follow each other, and making a run costs what 100 writes do.
            run = self._run = _RingRun(ring, count)
        run.size, run.span = size, span
        if kinds != _MIXED:
            accesses.write_run(accesses.memory if kinds == _MEMORY else accesses.ports, run)
            return
        self._carry_out_in_turns(ring, run)

    def _carry_out_in_turns(self, ring: Consumer, run: WriteRun) -> None:
        """Carry out a batch in which memory and ports alternate."""
        accesses, count = self._accesses, len(run)
        entries = None if accesses.observers else ring.core.entries(count)
        pio = ring.pio[:count]
        edges = (np.flatnonzero(np.diff(pio)) + 1).tolist()
        for start, stop in pairwise([0, *edges, count]):
            if entries is not None and stop - start < SHORTEST_RUN:
                self._write_singly(entries[start:stop])
                self._look_around()
            else:
                accesses.write_run(
                    accesses.ports if pio[start] else accesses.memory, run.part(start, stop)
                )

    def _write_singly(self, entries: list[tuple[int, int, int, int]]) -> None:
        """Carry out writes, given as (address, length, pio, value)."""
        accesses = self._accesses
        for address, length, port, value in entries:
            accesses.write(accesses.ports if port else accesses.memory, address, length, value)


class _RingRun(WriteRun):
    """The batch of a ring's last peek. Rebased it is gapless, which numpy runs through faster."""

    __slots__ = ("_rebase", "_rebased")

    def __init__(self, ring: Consumer, count: int) -> None:
        sizes = ring.sizes[:count]
        super().__init__(ring.addresses[:count], sizes, ring.values[:count], 0, (0, 0))
        self._rebase = ring.core.rebase
        self._rebased = WriteRun(ring.offsets[:count], sizes, ring.data[:count], 0, (0, 0))

    def rebased(self, base: int) -> WriteRun:
        self._rebase(base)
        low, last = self.span
        run = self._rebased
        run.size, run.span = self.size, (low - base, last - base)
        return run
