"""The cost of a write from three constants, fitted on some points and checked on others.

A guest that writes fills the ring, exits once, and waits while the VMM carries the batch out:

    nanoseconds per write = round trip / writes per exit + append + dispatch

Round trip: the cost per batch, of the exit, its answer and the fixed part of a dispatch.
Append: the guest's part per entry. Dispatch: the VMM's.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from coalesced.hv.abi import KVM_EXIT_MMIO
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.outcome import Outcome
from coalesced.hv.process import GuestProcess
from coalesced.hv.ring import usable
from coalesced.tools.bench import host, report
from coalesced.tools.bench.measure import NOTHING, Spread, Step, Taken, interleaved, rounds, spread
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.runs.json_members import HIDDEN, OPTIONAL
from coalesced.tools.runs.words import plural
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.loop import Loop
from coalesced.vmm.machine import Machine

GUEST = "coalesced.tools.guests.bench:vga"
RINGS = (1, 2, 4, 8, 16, 64)  # pages of the table of predictions


class Sizes(NamedTuple):
    """The size of a measurement; writes per repetition."""

    repetitions: int
    writes: int
    seconds: float


FULL = Sizes(repetitions=5, writes=1 << 17, seconds=38)
QUICK = Sizes(repetitions=2, writes=1 << 15, seconds=15)


class Point(NamedTuple):
    """A guest that exits after every `burst` writes or, with 0, when the ring is full."""

    wait: str
    ring_pages: int
    burst: int = 0

    @property
    def per_exit(self) -> int:
        """Writes per exit; with a full ring, including the one that exits."""
        return self.burst or usable(self.ring_pages) + 1

    @property
    def queued(self) -> int:
        """Writes per exit that go through the ring."""
        return self.burst or usable(self.ring_pages)

    def __str__(self) -> str:
        full = f"a full ring of {plural(self.ring_pages, 'page')}"
        until = f"{self.burst:,} writes and a load" if self.burst else full
        return f"--wait {self.wait}: {until}"


class Constants(NamedTuple):
    """The constants of a wait policy, in nanoseconds."""

    round_trip: float
    append: float
    dispatch: float

    def per_write(self, point: Point) -> float:
        """The predicted nanoseconds per write."""
        each = self.append + self.dispatch
        return (self.round_trip + point.queued * each) / point.per_exit


class Choice(NamedTuple):
    """The points of a run."""

    policies: Sequence[str] = ("adaptive", "block")
    fit_pages: int = 64
    fitted: Sequence[int] = (16, 169, 1024, 4096)  # writes per exit; they never fill the ring
    tried_burst: int = 64
    tried_rings: Sequence[int] = (1, 2, 8)  # pages, filled to the last slot

    def fitted_points(self, wait: str) -> list[Point]:
        """The points that the constants are fitted to."""
        return [Point(wait, self.fit_pages, burst) for burst in self.fitted]

    def tried_points(self, wait: str) -> list[Point]:
        """The points whose cost is predicted."""
        burst = Point(wait, self.fit_pages, self.tried_burst)
        return [burst, *(Point(wait, pages) for pages in self.tried_rings)]

    def points(self) -> list[Point]:
        """All points."""
        both = self.fitted_points, self.tried_points
        return [point for wait in self.policies for some in both for point in some(wait)]


def fit(bursts: Sequence[int], cycles: Sequence[float], drains: Sequence[float]) -> Constants:
    """Fit the constants to nanoseconds per cycle and per drain, by batch length.

    A cycle is the round trip and, per entry, append and dispatch; a drain is a fixed part and, per
    entry, dispatch.
    """
    round_trip, both = _line(bursts, cycles)
    _, dispatch = _line(bursts, drains)
    return Constants(round_trip, both - dispatch, dispatch)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The intercept and slope of a line, fitted by least squares of the relative error."""
    weights = 1 / np.array(y)
    columns = np.stack((np.ones(len(x)), np.array(x, float)), axis=1) * weights[:, None]
    (intercept, slope), *_ = np.linalg.lstsq(columns, np.ones(len(x)), rcond=None)
    return float(intercept), float(slope)


class Timed:
    """An accelerator that records when exits arrive and how long each drain takes."""

    def __init__(self, accel: Accelerator) -> None:
        self._accel = accel
        self.flush: Callable[[], int] = lambda: 0
        self.arrivals: list[int] = []
        self.drains: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accel, name)

    def run(self, loop: Loop) -> Outcome:
        got = self._accel.run(loop)
        if isinstance(got, tuple) and got[0] == KVM_EXIT_MMIO:
            arrived = time.monotonic_ns()
            self.flush()
            self.drains.append(time.monotonic_ns() - arrived)
            self.arrivals.append(arrived)
        return got


class Measured:
    """A point, its cycles and its drains."""

    def __init__(self, point: Point, writes: int) -> None:
        self.point = point
        self._writes = max(writes, 8 * point.per_exit)
        self.drains: list[float] = []  # nanoseconds, one per run

    def run(self) -> float:
        """Nanoseconds of the median cycle, from the arrival of an exit to that of the next."""
        policy = WaitPolicy.named(self.point.wait)
        inner = ProcessAccelerator(
            GuestProcess(), self.point.ring_pages, policy, host.placements()[0]
        )
        timed = Timed(inner)
        with Machine(timed) as machine:
            pc.add_ram(machine)
            pc.add_vga(machine)
            timed.flush = machine.flush
            machine.run(GUEST, {"writes": self._writes, "burst": self.point.burst})
        self.drains.append(statistics.median(timed.drains[1:]))
        cycles = (after - before for before, after in itertools.pairwise(timed.arrivals))
        return statistics.median(cycles)


class Fitted(NamedTuple):
    """The fitted constants of a policy."""

    middle: Constants  # medians
    each: dict[str, Spread]  # by constant, a sample per repetition


def plan(options: Options) -> Plan:
    """Fit, predict, and measure the points that were predicted."""
    sizes, choice = QUICK if options.quick else FULL, Choice()
    steps = rounds(sizes.repetitions) * len(choice.points())
    return Plan(steps, sizes.seconds, lambda step: measure(choice, sizes, step))


def measure(choice: Choice, sizes: Sizes, step: Step) -> report.Section:
    """Measure all points in turns."""
    subjects = {str(point): Measured(point, sizes.writes) for point in choice.points()}
    runs = {name: subject.run for name, subject in subjects.items()}
    taken = interleaved(runs, sizes.repetitions, step)
    drains = Taken({n: spread(s.drains[1:]) for n, s in subjects.items() if len(s.drains) > 1})
    return section(choice, taken, drains)


def constants(choice: Choice, wait: str, taken: Taken, drains: Taken) -> Fitted | None:
    """The constants, fitted per repetition; None without a whole repetition."""
    names = [str(point) for point in choice.fitted_points(wait)]
    whole = min(len(figures[name].samples) for name in names for figures in (taken, drains))
    if whole == 0:
        return None
    fits = [
        fit(
            choice.fitted,
            [taken[name].samples[number] for name in names],
            [drains[name].samples[number] for name in names],
        )
        for number in range(whole)
    ]
    each = {name: spread([getattr(one, name) for one in fits]) for name in Constants._fields}
    return Fitted(Constants(*(figure.median for figure in each.values())), each)


@dataclass(frozen=True)
class Prediction:
    """A point, measured and predicted."""

    wait: str
    ring_pages: int
    burst: int
    measured_ns_per_write: Spread
    predicted_ns_per_write: float
    error_percent: float

    @property
    def point(self) -> Point:
        """The point."""
        return Point(self.wait, self.ring_pages, self.burst)


@dataclass(frozen=True)
class Crossover:
    """The batch at which waiting by spinning uses as much CPU as a sleep and its wake-up.

    The guest waits while the VMM dispatches: through a longer batch it should sleep, if something
    else needs the CPU.
    """

    wake_up_ns: float
    entries: float

    @classmethod
    def of(cls, spinning: Constants, sleeping: Constants) -> Crossover:
        """From the constants of both policies."""
        wake_up = sleeping.round_trip - spinning.round_trip
        return cls(wake_up, wake_up / spinning.dispatch)


@dataclass(frozen=True)
class RingPrediction:
    """A full ring, for a guest that only writes."""

    ring_pages: int
    predicted_ns_per_write: float
    oldest_us: float  # at most, from the first write of a batch until the device has seen it

    @classmethod
    def of(cls, found: Constants, pages: int) -> RingPrediction:
        """A ring of `pages` under these constants."""
        point = Point("adaptive", pages)
        oldest = found.round_trip + point.queued * (found.append + found.dispatch)
        return cls(pages, found.per_write(point), oldest / 1e3)


@dataclass(frozen=True)
class Errors:
    """Sizes of the predictions' errors, in percent."""

    median: float = math.nan
    greatest: float = math.nan


@dataclass(frozen=True)
class ModelFigures:
    """The constants of each policy, and predictions beside measurements."""

    constants: Mapping[str, Mapping[str, float]]
    predictions: Sequence[Prediction]
    error_percent: Errors
    spread: Mapping[str, Mapping[str, tuple[float, float]]]
    crossover: Crossover | None = field(default=None, metadata=OPTIONAL)
    rings: Sequence[RingPrediction] | None = field(default=None, metadata=OPTIONAL)
    fitted: Mapping[str, Fitted] = field(default_factory=dict, metadata=HIDDEN)


def predictions(choice: Choice, found: Fitted, wait: str, taken: Taken) -> Iterator[Prediction]:
    """The points of a policy that were not fitted."""
    for point in choice.tried_points(wait):
        figure = taken[str(point)].scaled(1 / point.per_exit)
        predicted = found.middle.per_write(point)
        error = (predicted / figure.median - 1) * 100
        yield Prediction(*point, figure, predicted, error)


def figures_of(choice: Choice, taken: Taken, drains: Taken) -> ModelFigures:
    """Fit the constants, and compare the predictions with the measurements."""
    all_ = {wait: constants(choice, wait, taken, drains) for wait in choice.policies}
    fitted = {wait: found for wait, found in all_.items() if found is not None}
    predicted = [
        p for wait, found in fitted.items() for p in predictions(choice, found, wait, taken)
    ]
    errors = [abs(p.error_percent) for p in predicted if p.measured_ns_per_write.samples]
    spinning, sleeping = fitted.get("adaptive"), fitted.get("block")
    return ModelFigures(
        constants={
            wait: {f"{name}_ns": value for name, value in found.middle._asdict().items()}
            for wait, found in fitted.items()
        },
        predictions=predicted,
        error_percent=Errors(statistics.median(errors), max(errors)) if errors else Errors(),
        spread={wait: report.ends(found.each) for wait, found in fitted.items()},
        crossover=Crossover.of(spinning.middle, sleeping.middle) if spinning and sleeping else None,
        rings=[RingPrediction.of(spinning.middle, pages) for pages in RINGS] if spinning else None,
        fitted=fitted,
    )


def section(choice: Choice, taken: Taken, drains: Taken) -> report.Section:
    """The constants, and each prediction beside its measurement."""
    figures = figures_of(choice, taken, drains)
    title = (
        "The model: ns per write = round trip / writes per exit + append + dispatch; "
        f"greatest error of a prediction {figures.error_percent.greatest:.1f} %"
    )
    return report.Section("model", figures, title, "ns", list(_rows(figures)))


_PAID = {
    "round_trip": "once per batch",
    "append": "per entry, by the guest",
    "dispatch": "per entry, by the VMM",
}


def _rows(figures: ModelFigures) -> Iterator[report.Row]:
    for wait, found in figures.fitted.items():
        for name, figure in found.each.items():
            yield report.Row(f"--wait {wait}: {name.replace('_', ' ')}", figure, _PAID[name])
        for each in figures.predictions:
            if each.wait == wait:
                predicted = report.text(each.predicted_ns_per_write)
                remark = f"per write; predicted {predicted} ns, {each.error_percent:+.1f} %"
                yield report.Row(str(each.point), each.measured_ns_per_write, remark)
    cross = figures.crossover
    if cross is not None:
        remark = f"as long as the dispatch of {cross.entries:,.0f} entries"
        figure = NOTHING._replace(median=cross.wake_up_ns)
        yield report.Row("a sleep and its wake-up add", figure, remark)
    for ring in figures.rings or ():
        figure = NOTHING._replace(median=ring.predicted_ns_per_write)
        remark = f"its oldest write waits up to {ring.oldest_us:,.0f} us"
        pages = plural(ring.ring_pages, "page")
        yield report.Row(f"predicted: a full ring of {pages}", figure, remark)
