"""What an exit costs: a load that leaves the guest, reaches a device, and comes back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from devices.bus.region import Region
from hv.doorbell import WaitPolicy
from hv.process import GuestProcess
from tools.bench import floors, host
from tools.bench.measure import Spread, Step, interleaved, rounds
from tools.guests import bench as guest
from vmm.accel.process import ProcessAccelerator
from vmm.machine import Machine

POLICIES = ("block", "adaptive", "poll")
FLOOR = "floor_pipe"


class Sizes(NamedTuple):
    """How much a measurement is; round trips per repetition."""

    repetitions: int
    sleeping: int  # where a round trip may take tens of microseconds
    spinning: int


FULL = Sizes(repetitions=11, sleeping=2_000, spinning=20_000)
QUICK = Sizes(repetitions=3, sleeping=500, spinning=2_000)


class ExitResult(NamedTuple):
    """Round trips on one placement, in microseconds."""

    floor: Spread
    policies: dict[str, Spread]
    percentiles: dict[str, tuple[float, float]]  # policy: median and 99th of single ones


class Probe:
    """A device that tells the guest what to do, and answers its loads with 0."""

    def __init__(self) -> None:
        self.command = 0
        self.stamps: list[int] = []
        self.region = Region("bench-probe", guest.REGISTERS_SIZE, self.read, self.write)

    def read(self, offset: int, _size: int) -> int:
        """A load; CONTROL gives the command, STAMPED notes the time."""
        if offset == guest.STAMPED - guest.CONTROL:
            self.stamps.append(time.monotonic_ns())
        return 0 if offset else self.command

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing: the guest only loads."""


class Exits:
    """A machine with a probe, and a guest process that loads from it on demand."""

    def __init__(self, policy: WaitPolicy, placement: str) -> None:
        process = GuestProcess()
        with host.affinity_kept():
            self.machine = Machine(ProcessAccelerator(process, 1, policy, placement))
        self._pid = process.pid
        self._cpus = host.cpus_of(placement)
        self._probe = Probe()
        try:
            self.machine.memory.map(self._probe.region, guest.CONTROL)
            self.machine.accel.load_guest("tools.guests.bench:exits", {})
        except BaseException:
            self.machine.close()
            raise
        host.park(self._pid)

    def measure(self, count: int, address: int = guest.PROBE) -> float:
        """Nanoseconds per round trip, mean of `count`."""
        self._probe.command = count | address << 32
        with host.on_cpu(self._cpus[0]), host.awake(self._pid, self._cpus[1]):
            started = time.monotonic_ns()
            self.machine.resume()
            # The load of the command and the halt behind them are exits as well.
            return (time.monotonic_ns() - started) / (count + 2)

    def percentiles(self, count: int) -> tuple[float, float]:
        """Median and 99th percentile of single round trips, in microseconds."""
        stamps = self._probe.stamps
        stamps.clear()
        self.measure(count, guest.STAMPED)
        trips = sorted(after - before for before, after in itertools.pairwise(stamps))
        return trips[len(trips) // 2] / 1e3, trips[len(trips) * 99 // 100] / 1e3


def measure(placement: str, sizes: Sizes, step: Step) -> ExitResult:
    """Measure every policy beside the floor, in one run."""
    here, there = host.cpus_of(placement)
    with ExitStack() as stack:
        running: dict[str, Exits] = {}
        for name in POLICIES:
            running[name] = Exits(WaitPolicy.named(name), placement)
            stack.callback(running[name].machine.close)
        counts = {name: _count(name, placement, sizes) for name in POLICIES}
        # The floor right before the policy that is held against it.
        subjects: dict[str, Callable[[], float]] = {
            FLOOR: lambda: floors.pipe_ping_pong(sizes.sleeping, here, there)
        }
        for name, exits in running.items():
            subjects[name] = partial(exits.measure, counts[name])
        taken = interleaved(subjects, sizes.repetitions, step)
        percentiles = {name: running[name].percentiles(counts[name]) for name in POLICIES}
    return ExitResult(
        taken[FLOOR].scaled(1e-3),
        {name: taken[name].scaled(1e-3) for name in POLICIES},
        percentiles,
    )


def steps(sizes: Sizes) -> int:
    """Calls of `step` that `measure` makes."""
    return rounds(sizes.repetitions) * (1 + len(POLICIES))


def _count(policy: str, placement: str, sizes: Sizes) -> int:
    return sizes.spinning if placement == "split" and policy != "block" else sizes.sleeping
