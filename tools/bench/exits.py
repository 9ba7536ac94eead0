"""What an exit costs: a load that leaves the guest, reaches a device, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np

from coalesced.devices.bus.region import Region
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import floors, host, report
from coalesced.tools.bench.histogram import PERCENTILES, Histogram
from coalesced.tools.bench.measure import Step, Taken, interleaved, rounds
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

POLICIES = ("block", "adaptive", "poll")
FLOORS = ("pipe", "eventfd", "socketpair", "futex", "spin")  # of floors.ping_pong
FLOOR = FLOORS[0]  # what a blocking exit is held against


class Sizes(NamedTuple):
    """How much a measurement is; round trips per repetition."""

    repetitions: int
    sleeping: int  # where a round trip may take tens of microseconds
    spinning: int
    single: int  # of those that are timed one by one
    seconds: float


# 11 times 9,100 make 10**5 single round trips of each.
FULL = Sizes(repetitions=11, sleeping=2_000, spinning=20_000, single=9_100, seconds=30)
QUICK = Sizes(repetitions=3, sleeping=500, spinning=2_000, single=1_000, seconds=5)


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
        accel = ProcessAccelerator(process, 1, policy, placement)
        accel.put_cpus_back()
        self.machine = Machine(accel)
        self._pid = process.pid
        self._cpus = host.cpus_of(placement)
        self._probe = Probe()
        try:
            self.machine.memory.map(self._probe.region, guest.CONTROL)
            self.machine.accel.load_guest("coalesced.tools.guests.bench:exits", {})
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

    def singly(self, count: int, histogram: Histogram) -> float:
        """Time `count` round trips one by one, from a load's arrival to the next one's."""
        stamps = self._probe.stamps
        stamps.clear()
        self.measure(count + 1, guest.STAMPED)
        trips = np.diff(np.array(stamps, np.int64))
        histogram.add(trips)
        return float(trips.mean())


class Session:
    """Round trips on one placement: the policies and the floors."""

    def __init__(self, placement: str, sizes: Sizes, stack: ExitStack) -> None:
        self._placement = placement
        self._sizes = sizes
        self._cpus = host.cpus_of(placement)
        self.histograms = {key_of(placement, name): Histogram() for name in (*POLICIES, *FLOORS)}
        self._exits: dict[str, Exits] = {}
        for policy in POLICIES:
            self._exits[policy] = Exits(WaitPolicy.named(policy), placement)
            stack.callback(self._exits[policy].machine.close)

    def subjects(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """By name; the floor right before the policy that is held against it."""
        for kind in FLOORS[::-1]:
            count = self._sizes.spinning if self._spins(kind) else self._sizes.sleeping
            yield key_of(self._placement, kind), partial(floors.ping_pong, kind, count, *self._cpus)
        for policy, exits in self._exits.items():
            count = self._sizes.spinning if self._spins(policy) else self._sizes.sleeping
            yield key_of(self._placement, policy), partial(exits.measure, count)

    def singles(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """The same, each round trip timed and counted in `histograms`."""
        for kind in FLOORS[::-1]:
            yield key_of(self._placement, kind), partial(self._floor_singly, kind)
        for policy, exits in self._exits.items():
            name = key_of(self._placement, policy)
            yield name, partial(exits.singly, self._sizes.single, self.histograms[name])

    def _floor_singly(self, kind: str) -> float:
        each = np.zeros(self._sizes.single, np.int64)
        ns = floors.ping_pong(kind, len(each), *self._cpus, each)
        self.histograms[key_of(self._placement, kind)].add(each)
        return ns

    def _spins(self, name: str) -> bool:
        return self._placement == "split" and name in {"adaptive", "poll", "spin"}


def key_of(placement: str, name: str) -> str:
    """The name of a figure in a table."""
    what = f"--wait {name}" if name in POLICIES else f"floor: C ping-pong, {name}"
    return f"{placement}: {what}"


def plan(options: Options) -> Plan:
    """Every policy and floor on every placement."""
    sizes = QUICK if options.quick else FULL
    placements = host.placements()
    each = len(placements) * (len(POLICIES) + len(FLOORS))
    steps = each * (rounds(sizes.repetitions) + sizes.repetitions)
    return Plan(steps, sizes.seconds, lambda step: measure(placements, sizes, step))


def measure(placements: tuple[str, ...], sizes: Sizes, step: Step) -> report.Section:
    """Measure everything in one run: means of many first, then single ones."""
    with ExitStack() as stack:
        sessions = [Session(placement, sizes, stack) for placement in placements]
        subjects = {name: run for s in sessions for name, run in s.subjects()}
        taken = interleaved(subjects, sizes.repetitions, step)
        singles = {name: run for s in sessions for name, run in s.singles()}
        if not stopped():
            interleaved(singles, sizes.repetitions - 1, step)  # warm already: every round counts
        histograms = {name: h for s in sessions for name, h in s.histograms.items()}
    return section(placements, taken, histograms)


def section(
    placements: tuple[str, ...], taken: Taken, histograms: dict[str, Histogram]
) -> report.Section:
    """Microseconds per round trip; `split` at the top, null with one CPU, `same` within."""
    us = Taken({name: figure.scaled(1e-3) for name, figure in taken.items()})
    rows: list[report.Row] = []
    for placement in placements:
        floor = us[key_of(placement, FLOOR)]
        for name in (*POLICIES, *FLOORS):
            key = key_of(placement, name)
            remark = _percentiles_text(histograms[key])
            if name in POLICIES:
                remark = f"{us[key].median / floor.median:.2f} times the pipe; {remark}"
            rows.append((key, us[key], remark))
    values = {
        **_values("split" if "split" in placements else None, us, histograms),
        "same": _values("same", us, histograms),
    }
    title = "The round trip of an exit, a load, and of bare C"
    counted = {name: histogram for name, histogram in histograms.items() if len(histogram)}
    return report.Section(
        "exit", values, title, "us", rows, counted, (_chart(placements[0], histograms),)
    )


def _percentiles_text(histogram: Histogram) -> str:
    if not len(histogram):
        return ""
    points = [(f"p{percent:g}", histogram.percentile(percent)) for percent in PERCENTILES]
    points.append(("max", histogram.most()))
    return "single ones: " + ", ".join(f"{name} {report.text(at)} us" for name, at in points)


def _values(
    placement: str | None, us: Taken, histograms: dict[str, Histogram]
) -> dict[str, object]:
    if placement is None:
        return dict.fromkeys(("floor_pipe_us", *(f"{policy}_us" for policy in POLICIES)))
    figures = {f"floor_{kind}_us": us[key_of(placement, kind)] for kind in FLOORS}
    figures |= {f"{policy}_us": us[key_of(placement, policy)] for policy in POLICIES}
    single = {name: histograms[key_of(placement, name)] for name in (*POLICIES, *FLOORS)}
    return {
        **report.medians(figures),
        "block_ratio": report.ratio(figures["block_us"], figures[f"floor_{FLOOR}_us"]),
        "block_p50_ratio": report.rounded(
            single["block"].percentile(50) / single[FLOOR].percentile(50)
        ),
        **{
            f"p{percent:g}_us".replace(".", "_"): {
                name: report.rounded(h.percentile(percent)) for name, h in single.items()
            }
            for percent in PERCENTILES
        },
        "max_us": {name: report.rounded(h.most()) for name, h in single.items()},
        "singles": {name: len(h) for name, h in single.items()},
        "spread": report.spreads(figures),
    }


def _chart(placement: str, histograms: dict[str, Histogram]) -> report.Chart:
    lines = tuple(
        (key.removeprefix(f"{placement}: "), histograms[key].curve())
        for key in (key_of(placement, name) for name in (*POLICIES, *FLOORS))
    )
    title = f"Exits and bare C round trips, CPUs {placement}"
    return report.Chart(title, "one in so many takes longer", "us", lines)
