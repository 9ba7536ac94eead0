"""A stress run: pairs, one after the other, until what was asked for is done."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from types import ModuleType
from typing import TYPE_CHECKING

from coalesced.hv import shm
from coalesced.hv.errors import HostError
from coalesced.tools.stress import corruptions, full_speed, kills
from coalesced.tools.stress.pattern import Style
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.totals import Totals

if TYPE_CHECKING:
    from coalesced.tools.commands.stress import Wanted

_SLICE = 1.0  # seconds of a pair at full speed
_SLOW_SHARE = 0.25  # of it for a stream that makes few entries a second
_PAIRS = 12  # that a run at full speed is cut into, where it is shorter
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Result:
    """What a run has found, and how long it took."""

    totals: Totals
    seconds: float
    complete: bool  # Ctrl-C did not end it


class Session:
    """What has been asked for, and how far it is done."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.totals = Totals()
        pins = Pins(wanted.ring_pages, wanted.wait, wanted.cpus, wanted.staleness)
        self._plan = Plan(wanted.seed, pins)
        self._started = time.monotonic()
        self._deadline = (
            self._started + wanted.seconds if wanted.seconds is not None else float("inf")
        )
        self._slice = min(_SLICE, wanted.seconds / _PAIRS) if wanted.seconds else _SLICE
        self._jobs: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        if wanted.kill:
            self._jobs.append((self._kills_left, self._kill))
        if wanted.corrupt:
            self._jobs.append((self._corruptions_left, self._corrupt))
        if wanted.stop or wanted.entries or not self._jobs:
            self._jobs.append((self._entries_left, self._full_speed))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def done(self) -> float:
        """Share of what was asked for that is done, 0 to 1."""
        wanted, totals = self._wanted, self.totals
        shares = [self.seconds / wanted.seconds] if wanted.seconds else []
        if wanted.entries:
            shares.append(totals.entries / wanted.entries)
        if wanted.times:
            made = [totals.kills] * bool(wanted.kill) + [totals.corruptions] * wanted.corrupt
            shares.append(min(made) / wanted.times)
        return min(1.0, max(shares, default=0.0))

    def run(self, step: Callable[[], None]) -> None:
        """Run jobs in turn; `step` is called after each."""
        for left, job in cycle(self._jobs):
            if time.monotonic() >= self._deadline or (self._wanted.broken and not self.totals.ok):
                break
            if left():
                job()
                step()
            elif not any(other() for other, _ in self._jobs):
                break

    # --- what is left, and the jobs ---

    def _kills_left(self) -> bool:
        return self._open(self.totals.kills)

    def _corruptions_left(self) -> bool:
        return self._open(self.totals.corruptions)

    def _open(self, made: int) -> bool:
        if self._wanted.times is not None:
            return made < self._wanted.times
        return self._wanted.seconds is not None or self._entries_left()

    def _entries_left(self) -> bool:
        if self._wanted.entries is not None:
            return self.totals.entries < self._wanted.entries
        # Without a number of its own, it goes on beside the others.
        others = [left for left, job in self._jobs if job != self._full_speed]
        return not others or any(left() for left in others)

    def _kill(self) -> None:
        assert self._wanted.kill is not None
        injected = _injected()
        setup = self._plan.short()
        kill = kills.Kill.draw(self._plan.random, self._wanted.kill, injected is not None)
        kills.run(setup, kill, injected, self.totals)

    def _corrupt(self) -> None:
        left = (self._wanted.times or sys.maxsize) - self.totals.corruptions
        corruptions.run(self._plan, left, self._deadline, self.totals)

    def _full_speed(self) -> None:
        left = max(0, (self._wanted.entries or 0) - self.totals.entries)
        setup = self._plan.next(left)
        slice_ = self._slice if setup.style is Style.runs else self._slice * _SLOW_SHARE
        seconds = min(slice_, self._deadline - time.monotonic())
        stops = self._plan.random if self._wanted.stop else None
        full_speed.run(setup, max(0.0, seconds), stops, self.totals)


def run(wanted: Wanted) -> Result:
    """Carry out a stress run, or what Ctrl-C leaves of it. Raises HostError."""
    if wanted.cpus == "split" and len(os.sched_getaffinity(0)) < 2:
        raise HostError("--cpus split: expected two CPUs to run on, got one")
    # Guest processes that outlive their VMM become this process's children: it sees their end.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(shm.orphans())
    session = Session(wanted)
    complete = True
    try:
        with _progress(session) as step:
            session.run(step)
    except KeyboardInterrupt:
        complete = False
        session.totals.leave_out_unfinished()
    seconds = session.seconds
    # A name lives for microseconds; one whose maker was killed just then, until the next start.
    shm.remove_orphans()
    session.totals.leaked_segments = len(set(shm.orphans()) - before)
    return Result(session.totals, seconds, complete)


def _injected() -> ModuleType | None:
    """The core that this process uses, if it is the one with injection points."""
    core = sys.modules["coalesced.hv.core"]
    return core if hasattr(core, "arm") else None


@contextmanager
def _progress(session: Session) -> Iterator[Callable[[], None]]:
    """A bar on stderr, on a terminal only; call what it gives."""
    from rich.console import Console  # noqa: PLC0415 - start-up time
    from rich.progress import Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    # No thread that refreshes: this process forks.
    with Progress(
        *Progress.get_default_columns(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("stress", total=1.0, told="")

        def step() -> None:
            totals = session.totals
            told = f"{totals.entries:,} entries"
            if totals.kills:
                told += f", {totals.kills:,} kills"
            if totals.corruptions:
                told += f", {totals.corruptions:,} corruptions"
            bar.update(task, completed=session.done, told=told)
            bar.refresh()

        yield step
