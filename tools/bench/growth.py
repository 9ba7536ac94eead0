"""How the cost of a write, of an exit and of a VM's start grows with the size of its parts."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv import shm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

WRITE, EXIT, START, RESERVE = "write_ns", "exit_ns", "start_ms", "reserve_ms"
COSTS: Final = {
    WRITE: "a write",
    EXIT: "an exit",
    START: "start of a VM, ms",
    RESERVE: "of it, to reserve RAM, ms",
}
_GUEST: Final = "coalesced.tools.guests.bench:growth"
_OTHERS: Final = (0xC000_0000, 1 << 36)  # regions that no access hits: below, above the one hit
_RAM: Final = 1 << 40  # out of the way of the regions


@dataclass(frozen=True)
class Shape:
    """A VM by the numbers and sizes of its parts."""

    zones: int = 1
    regions: int = 1
    ring_pages: int = 1
    ram_mib: int = 0
    ram_slots: int = 0  # of a page each


class Axis(NamedTuple):
    """A member of `Shape` that grows while the others stay as they are."""

    key: str
    label: str
    sizes: tuple[int, ...]
    costs: tuple[str, ...] = (WRITE, EXIT)

    def name(self, cost: str, size: int) -> str:
        """The name of a subject."""
        return f"{size:,} {self.label}, {cost}"


AXES: Final = (
    Axis("zones", "zones", (1, 3, 10, 30, 100, 300, 1000)),
    Axis("regions", "mapped regions", (1, 2, 5, 10, 20, 50, 100, 200)),
    Axis("ring_pages", "ring pages", (1, 4, 16, 64, 256, 1024, 4096)),
    Axis("ram_mib", "MiB of RAM", (16, 64, 256, 1024), (EXIT, START, RESERVE)),
    Axis("ram_slots", "RAM slots", (1, 2, 4, 8, 16, 32)),
)


class Sizes(NamedTuple):
    """The size of a measurement; operations per repetition."""

    repetitions: int
    writes: int
    exits: int
    seconds: float


FULL = Sizes(repetitions=9, writes=1_500_000, exits=20_000, seconds=80)
QUICK = Sizes(repetitions=2, writes=100_000, exits=2_000, seconds=6)
QUICK_RAM: Final = 256  # MiB at most


class Growing:
    """A VM of a shape, whose guest writes or exits on demand."""

    def __init__(self, shape: Shape) -> None:
        placement = host.placements()[0]
        process = GuestProcess()
        accel = ProcessAccelerator(process, shape.ring_pages, WaitPolicy.ADAPTIVE, placement)
        accel.put_cpus_back()
        self.machine = Machine(accel)
        self._pid = process.pid
        self._cpus = host.cpus_of(placement)
        self._command = 0
        self.reserving_ms = 0.0
        """How long the RAM took to reserve and to map."""
        try:
            self._build(shape)
            accel.load_guest(_GUEST, {"zones": shape.zones})
        except BaseException:
            self.machine.close()
            raise
        host.park(self._pid)

    def _build(self, shape: Shape) -> None:
        began = time.monotonic_ns()
        if shape.ram_mib:
            self.machine.add_ram(_RAM, shape.ram_mib << 20)
        self.reserving_ms = (time.monotonic_ns() - began) / 1e6
        for slot in range(shape.ram_slots):
            self.machine.add_ram(_RAM + (slot << 20), 4096)
        for number in range(1, shape.regions):
            base = _OTHERS[number % 2] + number * 0x2000
            other = Region(f"bench-{number}", 0x1000, self._read, self._write)
            self.machine.memory.map(other, base)
        at = guest.QUEUE - guest.CONTROL
        region = Region(
            "bench-growth",
            at + shape.zones * guest.APART,
            self._read,
            self._write,
            coalesced=tuple((at + zone * guest.APART, 1) for zone in range(shape.zones)),
            take_run=self._take_run,
        )
        self.machine.memory.map(region, guest.CONTROL)

    def measure(self, what: int, count: int) -> float:
        """Nanoseconds per operation, mean of `count`; `what`: guest.WRITES or guest.LOADS."""
        self._command = count | what << 32
        with host.on_cpu(self._cpus[0]), host.awake(self._pid, self._cpus[1]):
            started = time.monotonic_ns()
            self.machine.resume()
            return (time.monotonic_ns() - started) / count

    def _read(self, offset: int, _size: int) -> int:
        return 0 if offset else self._command

    def _write(self, offset: int, size: int, value: int) -> None:
        pass

    def _take_run(self, run: WriteRun) -> int:
        return len(run.addresses)


def started(shape: Shape, cost: str, exits: int) -> float:
    """A cost of a VM that is started for it and closed: one with large RAM is alone.

    START: milliseconds from nothing until its guest has halted; RESERVE: of these, for its RAM;
    EXIT: nanoseconds, mean of `exits`.
    """
    began = time.monotonic_ns()
    vm = Growing(shape)
    with closing(vm.machine):
        if cost == EXIT:
            return vm.measure(guest.LOADS, exits)
        vm.measure(guest.LOADS, 1)
        whole = (time.monotonic_ns() - began) / 1e6
        return vm.reserving_ms if cost == RESERVE else whole


def plan(options: Options) -> Plan:
    """Every axis, as far as this machine has the memory."""
    sizes = QUICK if options.quick else FULL
    axes = [_quick(axis) if options.quick else axis for axis in AXES]
    free = _free_mib()
    axes = [_fitting(axis, free) if axis.key == "ram_mib" else axis for axis in axes]
    steps = rounds(sizes.repetitions) * sum(len(a.sizes) * len(a.costs) for a in axes)
    return Plan(steps, sizes.seconds, lambda step: measure(axes, sizes, step))


def _quick(axis: Axis) -> Axis:
    """Three points of an axis."""
    sizes = axis.sizes
    if axis.key == "ram_mib":
        sizes = tuple(size for size in sizes if size <= QUICK_RAM)
    return axis._replace(sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]))


def _fitting(axis: Axis, free: int) -> Axis:
    """The sizes of RAM of at most half of `free` MiB."""
    return axis._replace(sizes=tuple(size for size in axis.sizes if size <= free // 2))


def _free_mib() -> int:
    """Free POSIX shared memory, and memory at all."""
    shared = os.statvfs(shm.DIRECTORY)
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(shared.f_bavail * shared.f_frsize, pages) >> 20


def measure(axes: Sequence[Axis], sizes: Sizes, step: Step) -> report.Section:
    """Measure an axis after the other, the points of each in turns."""
    taken = Taken()
    for axis in axes:
        if not stopped():
            taken.update(_measure_axis(axis, sizes, step))
    return section(axes, taken)


def _measure_axis(axis: Axis, sizes: Sizes, step: Step) -> Taken:
    shapes = {size: Shape(**{axis.key: size}) for size in axis.sizes}
    with ExitStack() as stack:
        subjects: dict[str, Callable[[], float]] = {}
        for size, shape in shapes.items():
            if START in axis.costs:
                runs = {cost: partial(started, shape, cost, sizes.exits) for cost in axis.costs}
            else:
                vm = Growing(shape)
                stack.callback(vm.machine.close)
                runs = {
                    WRITE: partial(vm.measure, guest.WRITES, sizes.writes),
                    EXIT: partial(vm.measure, guest.LOADS, sizes.exits),
                }
            subjects |= {axis.name(cost, size): runs[cost] for cost in axis.costs}
        return interleaved(subjects, sizes.repetitions, step)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """k of the power law cost = c * size**k nearest to (size, cost) in logarithms.

    NaN for fewer than two points.
    """
    known = [(size, cost) for size, cost in points if math.isfinite(cost)]
    if len(known) < 2:
        return math.nan
    sizes, costs = np.log(np.array(known)).T
    return float(np.polyfit(sizes, costs, 1)[0])


@dataclass(frozen=True)
class Point:
    """The cost at a size of a part."""

    size: int
    median: Spread
    spread: tuple[float, float]  # least and greatest


@dataclass(frozen=True)
class Curve:
    """The cost over the sizes of a part; the least and the greatest are medians."""

    exponent: float
    least: float
    greatest: float
    points: Sequence[Point]

    @classmethod
    def of(cls, axis: Axis, cost: str, taken: Taken) -> Curve:
        """One of the costs of an axis."""
        figures = {size: taken[axis.name(cost, size)] for size in axis.sizes}
        medians = [(float(size), figure.median) for size, figure in figures.items()]
        known = [median for _, median in medians if math.isfinite(median)]
        points = [Point(size, each, (each.low, each.high)) for size, each in figures.items()]
        least, greatest = min(known, default=math.nan), max(known, default=math.nan)
        return cls(exponent(medians), least, greatest, points)

    def row(self, axis: Axis, cost: str) -> report.Row:
        """The curve as a line of the table."""
        middle = float(np.median([point.median.median for point in self.points] or [math.nan]))
        what = f"{axis.sizes[0]:,} to {axis.sizes[-1]:,} {axis.label}: {COSTS[cost]}"
        return report.Row(what, Spread(middle, self.least, self.greatest), self._law())

    def line(self, cost: str) -> report.Line:
        """The curve as a line of a chart."""
        points = [(float(point.size), point.median.median) for point in self.points]
        return f"{COSTS[cost]}: {self._law()}", points

    def _law(self) -> str:
        """The power law, as far as there is one; n is the size."""
        return f"n^{round(self.exponent, 2) + 0.0:.2f}" if math.isfinite(self.exponent) else ""


@dataclass(frozen=True)
class GrowthFigures:
    """By part: the curves, by `write_ns`, `exit_ns`, `start_ms` and `reserve_ms`."""

    zones: Mapping[str, Curve]
    regions: Mapping[str, Curve]
    ring_pages: Mapping[str, Curve]
    ram_mib: Mapping[str, Curve]
    ram_slots: Mapping[str, Curve]


def section(axes: Sequence[Axis], taken: Taken) -> report.Section:
    """The curves of all axes; `taken` in the units of the costs."""
    curves = {a.key: {cost: Curve.of(a, cost, taken) for cost in a.costs} for a in axes}
    figures = GrowthFigures(**{axis.key: curves.get(axis.key, {}) for axis in AXES})
    rows = [
        curve.row(axis, cost)
        for axis in axes
        if axis.sizes
        for cost, curve in curves[axis.key].items()
    ]
    charts = [chart for axis in axes for chart in _charts(axis, curves[axis.key])]
    title = "How cost grows with the parts of a VM: medians at each size, and a power law"
    return report.Section("growth", figures, title, "ns or ms", rows, charts=tuple(charts))


def _charts(axis: Axis, curves: Mapping[str, Curve]) -> list[report.Chart]:
    """Nanoseconds and milliseconds apart."""
    charts = []
    for unit in ("ns", "ms"):
        lines = tuple(c.line(cost) for cost, c in curves.items() if cost.endswith(f"_{unit}"))
        if lines:
            charts.append(report.Chart(f"Cost over {axis.label}", axis.label, unit, lines))
    return charts
