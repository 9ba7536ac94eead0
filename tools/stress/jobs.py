"""A stress run: pairs of processes, one after the other, until the options are met."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle
from types import ModuleType

from coalesced.hv import shm
from coalesced.hv.errors import HostError
from coalesced.tools.runs import progress
from coalesced.tools.runs.busy import Moment
from coalesced.tools.stress import corruptions, full_speed, kills, lanes
from coalesced.tools.stress.pair import Warm
from coalesced.tools.stress.pattern import Style
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.totals import Totals
from coalesced.tools.stress.wanted import Wanted

_SLICE = 1.0  # seconds of a pair at full speed
_SLOW_SHARE = 0.25  # of a slice, for a stream that makes few entries a second
_PAIRS = 12  # least number of slices of a short run
_LANES_EACH = 2  # of a CPU: while a pair sleeps, begins or is judged, another one runs
_LANES_MOST = 8
_REPORT_EVERY = 0.1  # seconds, of a lane: a report takes more CPU time than a look at the clock


@dataclass(frozen=True)
class Result:
    """The counts of a stress run and its duration."""

    wanted: Wanted
    totals: Totals
    seconds: float
    complete: bool  # not ended by Ctrl-C
    others_cpu_share: float


class Jobs:
    """The jobs that a run consists of, and how much of each is left."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.totals = Totals()
        self._warm = Warm()
        self._cpus: lanes.Cpus | None = None
        pins = Pins(
            wanted.ring_pages,
            wanted.wait,
            wanted.cpus,
            wanted.staleness,
            wanted.vcpus,
            wanted.rings,
        )
        self._plan = Plan(wanted.seed, pins)
        self._started = time.monotonic()
        self._limit = math.inf if wanted.limit is None else wanted.limit
        self._jobs: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        if wanted.kill:
            self._jobs.append((self._kills_left, self._kill))
        if wanted.corrupts:
            self._jobs.append((self._corruptions_left, self._corrupt))
        if wanted.stop or wanted.entries or not self._jobs:
            self._jobs.append((self._entries_left, self._full_speed))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def done(self) -> float:
        """Share of the run that is done, 0 to 1."""
        wanted, totals = self._wanted, self.totals
        shares = [self.seconds / self._limit]
        if wanted.entries:
            shares.append(totals.entries / wanted.entries)
        if wanted.times:
            made = [totals.kills] * bool(wanted.kill) + [totals.corruptions] * wanted.corrupts
            shares.append(min(made) / wanted.times)
        return min(1.0, max(shares))

    def run(self, step: Callable[[], None]) -> None:
        """Run the jobs in turn, and call `step` after each. Corruptions alone are made side by
        side, by processes of which each CPU has two."""
        if self._wanted.corrupts and len(self._jobs) == 1:
            self._run_lanes(step)
            return
        with closing(self._warm):
            self._run(step)

    def _run_lanes(self, step: Callable[[], None]) -> None:
        count = min(_LANES_EACH * len(os.sched_getaffinity(0)), _LANES_MOST)
        self._cpus = lanes.Cpus()

        def work(number: int, tell: lanes.Tell) -> Totals:
            """In a process of its own: its share of the corruptions."""
            self._plan.take_share(number, count)
            times = self._wanted.times
            if times is not None:
                times = times * (number + 1) // count - times * number // count
                self._wanted = replace(self._wanted, times=times)
            reported = 0.0

            def report() -> None:
                nonlocal reported
                if not self.totals.ok or time.monotonic() - reported > _REPORT_EVERY:
                    reported = time.monotonic()
                    tell(self.totals)

            try:
                with closing(self._warm):
                    self._run(report)
            except KeyboardInterrupt:
                self.totals.leave_out_unfinished()
            return self.totals

        def summed(totals: Totals) -> bool:
            self.totals = totals
            step()
            return self._wanted.broken is not None and not totals.ok

        lanes.run(work, count, summed)

    def _run(self, step: Callable[[], None]) -> None:
        for left, job in cycle(self._jobs):
            if self.seconds >= self._limit or (self._wanted.broken and not self.totals.ok):
                break
            if left():
                job()
                step()
            elif not any(other() for other, _ in self._jobs):
                break

    def _kills_left(self) -> bool:
        return self._left(self.totals.kills)

    def _corruptions_left(self) -> bool:
        return self._left(self.totals.corruptions)

    def _left(self, made: int) -> bool:
        if self._wanted.times is not None:
            return made < self._wanted.times
        return self._wanted.limit is not None or self._entries_left()

    def _entries_left(self) -> bool:
        if self._wanted.entries is not None:
            return self.totals.entries < self._wanted.entries
        # Without a number of entries it runs as long as the other jobs do.
        others = [left for left, job in self._jobs if job != self._full_speed]
        return not others or any(left() for left in others)

    def _kill(self) -> None:
        injected = _injected()
        setup = self._plan.short()
        kill = kills.Kill.draw(self._plan.random, self._wanted.kill or "both", injected is not None)
        kills.run(setup, kill, injected, self.totals)

    def _corrupt(self) -> None:
        left = (self._wanted.times or sys.maxsize) - self.totals.corruptions
        deadline = self._started + self._limit
        alike = self._wanted.vcpus == 1 and not self._wanted.rings
        warm = self._warm if alike else None
        corruptions.run(self._plan, left, deadline, self.totals, warm=warm, cpus=self._cpus)

    def _full_speed(self) -> None:
        left = max(0, (self._wanted.entries or 0) - self.totals.entries)
        setup = self._plan.next(left)
        seconds = min(_SLICE, self._limit / _PAIRS)
        if setup.style is not Style.runs:
            seconds *= _SLOW_SHARE
        stops = self._plan.random if self._wanted.stop else None
        seconds = max(0.0, min(seconds, self._limit - self.seconds))
        full_speed.run(setup, seconds, stops, self.totals)


def run(wanted: Wanted) -> Result:
    """Carry out a stress run; Ctrl-C ends it early. Raises HostError."""
    if wanted.cpus == "split" and len(os.sched_getaffinity(0)) < 2:
        raise HostError("--cpus split: expected two CPUs to run on, got one")
    # This process reaps guest processes that outlive their VMM.
    lanes.reap_orphans()
    before = set(shm.orphans())
    jobs, began = Jobs(wanted), Moment.now()
    complete = True
    try:
        with progress.shown(1.0) as bar:
            jobs.run(lambda: bar.show(jobs.totals.in_short(), jobs.done))
    except KeyboardInterrupt:
        complete = False
        jobs.totals.leave_out_unfinished()
    seconds = jobs.seconds
    # A name lives for microseconds; a process killed just then leaves it until the next start.
    shm.remove_orphans()
    jobs.totals.leaked_segments = len(set(shm.orphans()) - before)
    return Result(wanted, jobs.totals, seconds, complete, began.others_share())


def _injected() -> ModuleType | None:
    """The core of this process if it has injection points."""
    core = sys.modules["coalesced.hv.core"]
    return core if hasattr(core, "arm") else None
