"""Run one side of a ring: loops in C, or the same in Python over a user's class."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from coalesced.tools.rings import drive
from coalesced.tools.rings.control import SEEN, Control, Word
from coalesced.tools.rings.source import FUNCTIONS, MORE_FUNCTIONS, Source

USERS, OURS, FLOOR = range(3)
OK, REFUSED, NONSENSE = range(3)
_U64 = (1 << 64) - 1
_PYTHON_METHODS = tuple(name for name in FUNCTIONS if name != "init")


class Missing(Exception):
    """The text says which function a ring lacks, or why it cannot be loaded."""


@dataclass(frozen=True)
class Job:
    """A run of a ring; `pause`, `wait` and `burst` as in drive.h."""

    entries: int  # that the ring holds at least
    burst: int = 64
    pause: int = 0
    wait: int = 0
    until: int = (1 << 63) - 1
    strict: bool = True
    seed: int = 1
    cpus: tuple[int, int] = (-1, -1)  # of the producer, the consumer; -1: any


class Driver(Protocol):
    """One side of a ring, in the process of that side."""

    offered: list[str]
    claims: str | None

    def size(self, entries: int) -> int: ...
    def call(self, name: str, memory: memoryview, argument: int) -> int: ...
    def points(self) -> list[str]: ...
    def arm(self, name: str, times: int) -> None: ...
    def run(self, producer: bool, memory: memoryview, control: Control, job: Job) -> int: ...


class CDriver:
    """A ring in C: a user's, or the product's own."""

    def __init__(self, ring: int, source: Source | None) -> None:
        """Raises Missing."""
        self._ring = ring
        self.offered, self.claims = [*FUNCTIONS, "push_many", "pop_many", "attach"], None
        if source is not None:
            try:
                self.offered, self.claims = drive.open(source.library, source.prefix)
            except OSError as error:
                raise Missing(f"it cannot be loaded: {error}") from error
        for name in FUNCTIONS:
            if name not in self.offered:
                raise Missing(f"expected a function ring_{name}, found none")

    def size(self, entries: int) -> int:
        return drive.size(self._ring, entries)

    def call(self, name: str, memory: memoryview, argument: int) -> int:
        return drive.call(name, self._ring, memory, argument)

    def points(self) -> list[str]:
        return drive.points()

    def arm(self, name: str, times: int) -> None:
        drive.arm(name, times)

    def run(self, producer: bool, memory: memoryview, control: Control, job: Job) -> int:
        return drive.run(
            producer, self._ring, memory, control.memory,
            job.seed, job.until, job.burst, job.pause, job.wait, job.strict,
        )  # fmt: skip


class PythonDriver:
    """A ring in Python: a class with `size(entries)` and, static, `init(memory, entries)`; its
    object, made from the memory, has `push(entry: bytes) -> bool` and `pop() -> bytes | None`."""

    def __init__(self, source: Source) -> None:
        """Raises Missing."""
        self._class = _class_of(source)
        self.offered = [n for n in (*FUNCTIONS, *MORE_FUNCTIONS) if hasattr(self._class, n)]
        for name in FUNCTIONS:
            if name not in self.offered:
                raise Missing(f"expected a method {name}, found none")
        claims = getattr(self._class, "claims", None)
        self.claims = None if claims is None else str(claims)
        self._ring: Any = None
        self._seen: list[str] = []
        self._at_point: Callable[[str], object] = self._seen.append

    def size(self, entries: int) -> int:
        return int(self._class.size(entries))

    def call(self, name: str, memory: memoryview, argument: int) -> int:
        if name == "init":
            return int(self._class.init(memory, argument) or 0)
        if name == "attach":
            self._ring = self._class(memory)
            self._ring.point = self._pass
            return 0
        if name == "push":
            return _as_bool(self._ring.push(bytes(24)))
        if name == "pop":
            return 0 if self._ring.pop() is None else 1
        return int(bool(self._ring.wait(argument)))

    def _pass(self, point: str) -> None:
        self._at_point(point)

    def points(self) -> list[str]:
        names, self._seen[:] = list(dict.fromkeys(self._seen)), []
        return names

    def arm(self, name: str, times: int) -> None:
        left = times

        def die(point: str) -> None:
            nonlocal left
            left -= point == name
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        self._at_point = die

    def run(self, producer: bool, memory: memoryview, control: Control, job: Job) -> int:
        return self._produce(control, job) if producer else self._consume(control, job)

    def _produce(self, control: Control, job: Job) -> int:
        number, many = control[Word.pushing], "push_many" in self.offered
        while number < job.until and not control[Word.stop]:
            while (
                job.pause and control[Word.next] < control[Word.pushed] and not control[Word.stop]
            ):
                control[Word.producer_calls] += 1
                os.sched_yield()
            count = min(job.burst if many else 1, job.until - number)
            batch = [entry_of(number + i, job.seed) for i in range(count)]
            control[Word.pushing] = number + count
            control[Word.pushed_at] = time.monotonic_ns()
            if count == 1:
                done = _as_bool(self._ring.push(batch[0]))
            else:
                done = int(self._ring.push_many(batch))
            control[Word.producer_calls] += 1
            if not 0 <= done <= count:
                return REFUSED if done < 0 else NONSENSE
            number += done
            control[Word.pushed_by] = time.monotonic_ns()
            control[Word.pushed] = number
            if not done:
                os.sched_yield()
        return OK

    def _consume(self, control: Control, job: Job) -> int:
        burst = job.burst
        many, expected = "pop_many" in self.offered and burst > 1, control[Word.next]
        control[Word.popping] = burst if many else 1
        while expected < job.until and not (
            control[Word.stop] and expected >= control[Word.pushed]
        ):
            if many:
                batch = list(self._ring.pop_many(burst))
            else:
                one = self._ring.pop()
                batch = [] if one is None else [one]
            control[Word.consumer_calls] += 1
            if len(batch) > burst or not all(isinstance(e, bytes) and len(e) == 24 for e in batch):
                return NONSENSE
            if batch and job.pause:  # before `next` lets the producer set `pushed_at` anew
                control.take_latency(time.monotonic_ns() - control[Word.pushed_at])
            for entry in batch:
                expected = _judge(control, entry, expected, job)
            control[Word.next] = expected
            if batch:
                continue
            if control[Word.stop] and not job.strict:
                break
            if job.wait and "wait" in self.offered:
                self._sleep(control, job.wait)
            else:
                os.sched_yield()
        return OK

    def _sleep(self, control: Control, wait: int) -> None:
        control[Word.waits] += 1
        self._ring.wait(wait)
        control[Word.consumer_calls] += 1
        waiting = control[Word.pushed] > control[Word.next]
        if waiting and time.monotonic_ns() - control[Word.pushed_by] > wait * 750_000:
            control[Word.slept_through] += 1


def driver_of(ring: int, source: Source | None) -> Driver:
    """The driver of a ring, in the process that is to run it. Raises Missing."""
    if source is not None and source.class_name:
        return PythonDriver(source)
    return CDriver(ring, source)


def entry_of(number: int, seed: int) -> bytes:
    """The entry of that number, as entry_make in drive.c."""
    second = number * 0x9E3779B97F4A7C15 + seed & _U64
    third = (number ^ seed) * 0xC2B2AE3D27D4EB4F + 1 & _U64
    return np.array([number, second, third], np.uint64).tobytes()


def _judge(control: Control, entry: bytes, expected: int, job: Job) -> int:
    """Count an entry, as judge in drive.c; the number that must come next."""
    number = int.from_bytes(entry[:8], "little")
    known, control.seen[number % SEEN] = int(control.seen[number % SEEN]), number + 1 & _U64
    if number == expected and entry == entry_of(number, job.seed):
        return expected + 1
    if not job.strict:
        return expected
    if entry != entry_of(number, job.seed):
        control[Word.torn] += 1
        return expected + 1
    gap = control[Word.gap_from], control[Word.gap_to]
    if number > expected:
        excused = max(0, min(number, gap[1]) - max(expected, gap[0]))
        control[Word.lost] += number - expected - excused
        return number + 1
    if known == number + 1:
        again = control[Word.again_from] <= number < gap[1]
        control[Word.redelivered if again else Word.duplicated] += 1
    elif not gap[0] <= number < gap[1]:
        control[Word.reordered] += 1
        control[Word.lost] -= bool(control[Word.lost])
    return expected


def _as_bool(answer: object) -> int:
    return answer if isinstance(answer, int) else NONSENSE + 1 if answer is not None else 0


def prepare(source: Source) -> None:
    """Import the ring's class, which the probe's process could import. Sides forked later share
    it, and the locks that its file makes. Raises Missing."""
    with contextlib.redirect_stdout(sys.stderr):
        _class_of(source)
    if (tracker := sys.modules.get("multiprocessing.resource_tracker")) is not None:
        tracker.ensure_running()  # memory that a side makes with it outlives the side


@lru_cache
def _class_of(source: Source) -> Any:
    spec = importlib.util.spec_from_file_location("user_ring", source.file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, source.class_name)
    except Exception as error:
        raise Missing(f"it cannot be loaded: {type(error).__name__}: {error}") from error
