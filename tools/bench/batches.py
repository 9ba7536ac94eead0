"""Bursts of writes, batch by batch: how long each takes, and the VMM's part of it."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from coalesced.hv import core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.ring import Consumer, usable
from coalesced.tools.bench.parked import Parked
from coalesced.tools.runs.words import plural
from coalesced.vmm import pc

GUEST = "coalesced.tools.guests.bench:bursts"
LOWER = 10  # percentile: another process makes some batches longer, and none shorter
MOST = 400  # bursts of a run
LEAST = 8


class Point(NamedTuple):
    """A guest that loads from its screen after every `burst` writes to it."""

    wait: str
    ring_pages: int
    burst: int

    @property
    def full(self) -> int:
        """Exits of a burst that are writes which found the ring full."""
        return self.burst // (usable(self.ring_pages) + 1)

    @property
    def queued(self) -> int:
        """Writes of a burst that go through the ring."""
        return self.burst - self.full

    @property
    def batches(self) -> list[int]:
        """The lengths of a burst's batches; what does not fill the ring is drained at the load."""
        full = [usable(self.ring_pages)] * self.full
        rest = self.queued - sum(full)
        return [*full, rest] if rest else full

    def __str__(self) -> str:
        pages = plural(self.ring_pages, "page")
        return f"--wait {self.wait}, {pages}: {self.burst:,} writes and a load"


class Batch(NamedTuple):
    """A batch that was drained: monotonic nanoseconds."""

    began: int
    ended: int
    writes: int


class Taps:
    """Notes the batches that come out of a ring."""

    def __init__(self, ring: Consumer) -> None:
        self.batches: list[Batch] = []
        self._ring = ring
        self._core, self._commit = ring.core, ring.commit
        self._began = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def peek(self) -> int:
        """As the core's."""
        self._began = time.monotonic_ns()
        return self._core.peek()

    def commit(self, count: int) -> int:
        """As the core's."""
        left = self._commit(count)
        self.batches.append(Batch(self._began, time.monotonic_ns(), count))
        return left

    @contextmanager
    def on(self) -> Iterator[None]:
        """Take the place of the ring's core within the block."""
        self.batches.clear()
        self._ring.core, self._ring.commit = cast(core.Consumer, self), self.commit
        try:
            yield
        finally:
            self._ring.core, self._ring.commit = self._core, self._commit


class Spent(NamedTuple):
    """Nanoseconds of a burst; NaN of one that was not seen whole."""

    whole: float
    drains: float


class Bursts(Parked):
    """A machine with a screen, whose guest draws bursts on demand."""

    def __init__(self, wait: str, pages: int) -> None:
        super().__init__(pages, WaitPolicy.named(wait))
        with self.building(GUEST):
            pc.add_ram(self.machine)
            pc.add_vga(self.machine)
            self.add_control()
        self._taps = Taps(self.machine.queues[0].ring)

    def measure(self, point: Point, writes: int) -> Spent:
        """The cost of a burst, from as many as make `writes`, LEAST to MOST of them."""
        count = min(max(writes // point.burst, LEAST), MOST)
        self.command = count | point.burst << 32
        with self._taps.on():
            self.resume()
        return spent(point, self._taps.batches)


def spent(point: Point, batches: list[Batch]) -> Spent:
    """The cost of a burst, from those of its batches.

    A batch lasts from the beginning of its drain to the next one's. Those of one length before
    another are compared with each other. A burst has a kind that none of them is of when
    something else drained the ring amid each: its cost is not known.
    """
    wholes, drains = (defaultdict[tuple[int, int], list[int]](list) for _ in range(2))
    for one, after in pairwise(batches):
        kind = one.writes, after.writes
        wholes[kind].append(after.began - one.began)
        drains[kind].append(one.ended - one.began)
    lengths = point.batches
    counts = Counter(zip(lengths, [*lengths[1:], lengths[0]], strict=True))
    if not all(wholes[kind] for kind in counts):
        return Spent(math.nan, math.nan)
    return Spent(
        *(
            sum(n * float(np.percentile(each[kind], LOWER)) for kind, n in counts.items())
            for each in (wholes, drains)
        )
    )
