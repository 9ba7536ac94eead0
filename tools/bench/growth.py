"""The growth of the costs of a write, an exit, a start and more with the size of a VM's parts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from coalesced.hv import shm
from coalesced.tools.bench import report
from coalesced.tools.bench.growing import (
    EXIT,
    RESERVE,
    START,
    WRITE,
    Sizes,
    Subjects,
    of_shape,
)
from coalesced.tools.bench.growing_hub import FRAME, SHARE, of_hub
from coalesced.tools.bench.growing_trace import READ, REPLAY, WHOLE, of_trace
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.registry import Options, Plan

COSTS: Final = {
    WRITE: "a write",
    EXIT: "an exit",
    START: "start of a VM, ms",
    RESERVE: "of it, to reserve RAM, ms",
    FRAME: "a frame from one to all",
    SHARE: "a frame, for each card",
    READ: "an access, read from text",
    REPLAY: "an access, replayed",
    WHOLE: "an access, with start and checks",
}
MANY: Final = 1 << 62


class Axis(NamedTuple):
    """A part that grows, and its measurement at each size. A cost's name ends with its unit."""

    key: str  # a member of `Shape`, or what `make` says
    label: str
    sizes: tuple[int, ...]
    costs: tuple[str, ...] = (WRITE, EXIT)
    make: Callable[[int, Sizes, ExitStack], Subjects] | None = None  # None: a VM of that shape
    quick: int = MANY  # the greatest size with --quick
    kib: int = 0  # memory for each unit of the size
    repetitions: int = MANY  # at most

    def name(self, cost: str, size: int) -> str:
        """The name of a subject."""
        return f"{size:,} {self.label}, {cost}"

    def rounds(self, sizes: Sizes) -> int:
        """Rounds of its measurement."""
        return rounds(min(sizes.repetitions, self.repetitions))


AXES: Final = (
    Axis("zones", "zones", (1, 3, 10, 30, 100, 300, 1000)),
    Axis("regions", "mapped regions", (1, 2, 5, 10, 20, 50, 100, 200)),
    Axis("devices", "devices", (1, 2, 5, 10, 20, 50, 100, 200), (WRITE, EXIT, START)),
    Axis("ring_pages", "ring pages", (1, 4, 16, 64, 256, 1024, 4096)),
    Axis("ram_mib", "MiB of RAM", (16, 64, 256, 1024), (EXIT, START, RESERVE), quick=256, kib=1024),
    Axis(
        "ram_unreserved_mib",
        "MiB of RAM, not reserved",
        (16, 64, 256, 1024, 4096),
        (WRITE, EXIT, START),
    ),
    Axis("ram_slots", "RAM slots", (1, 2, 4, 8, 16, 32)),
    Axis("cards", "cards on a hub", (1, 2, 4, 8, 16, 32), (FRAME, SHARE), of_hub),
    Axis(
        "trace_lines",
        "lines of a trace",
        (10_000, 30_000, 100_000, 1_000_000, 10_000_000),
        (READ, REPLAY, WHOLE),
        of_trace,
        quick=30_000,
        kib=1,
        repetitions=2,
    ),
)

FULL = Sizes(repetitions=9, writes=1_500_000, exits=20_000, frames=100_000, seconds=300)
QUICK = Sizes(repetitions=2, writes=100_000, exits=2_000, frames=2_000, seconds=15)


def plan(options: Options) -> Plan:
    """Every axis, as far as this machine has the memory."""
    sizes = QUICK if options.quick else FULL
    free = _free_kib()
    axes = [_fitting(_quick(axis) if options.quick else axis, free) for axis in AXES]
    steps = sum(a.rounds(sizes) * len(a.sizes) * len(a.costs) for a in axes)
    return Plan(steps, sizes.seconds, lambda step: measure(axes, sizes, step))


def _quick(axis: Axis) -> Axis:
    """Three points of an axis."""
    sizes = tuple(size for size in axis.sizes if size <= axis.quick)
    points = dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    return axis._replace(sizes=tuple(points))


def _fitting(axis: Axis, free: int) -> Axis:
    """The sizes that need at most half of `free` KiB."""
    return axis._replace(sizes=tuple(s for s in axis.sizes if s * axis.kib <= free // 2))


def _free_kib() -> int:
    """Free POSIX shared memory, and memory at all."""
    shared = os.statvfs(shm.DIRECTORY)
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(shared.f_bavail * shared.f_frsize, pages) >> 10


def measure(axes: Sequence[Axis], sizes: Sizes, step: Step) -> report.Section:
    """Measure an axis after the other, the points of each in turns."""
    taken = Taken()
    for axis in axes:
        if not stopped():
            taken.update(_measure_axis(axis, sizes, step))
    return section(axes, taken)


def _measure_axis(axis: Axis, sizes: Sizes, step: Step) -> Taken:
    make = axis.make or partial(of_shape, axis.key)
    with ExitStack() as stack:
        subjects: dict[str, Callable[[], float]] = {}
        for size in axis.sizes:
            runs = make(size, sizes, stack)
            subjects |= {axis.name(cost, size): runs[cost] for cost in axis.costs}
        return interleaved(subjects, min(sizes.repetitions, axis.repetitions), step)


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


def section(axes: Sequence[Axis], taken: Taken) -> report.Section:
    """The curves of all axes; `taken` in the units of the costs."""
    curves = {a.key: {cost: Curve.of(a, cost, taken) for cost in a.costs} for a in axes}
    figures = {axis.key: curves.get(axis.key, {}) for axis in AXES}
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
