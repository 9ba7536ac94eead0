"""The cost of a write from four constants, fitted on some points and checked on others.

A guest that writes fills the ring, exits, and waits while the VMM carries the batch out:

    nanoseconds of a burst = exits * round trip + full rings * full + queued * (append + dispatch)

Round trip: of an exit that is a load, its answer and the fixed part of a drain. Full: what an exit
costs more that is a write which found the ring full. Append: the guest's part of a queued write.
Dispatch: the VMM's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np

from coalesced.hv.ring import usable
from coalesced.tools.bench import report
from coalesced.tools.bench.batches import Bursts, Point
from coalesced.tools.bench.measure import NOTHING, Spread, Step, Taken, interleaved, rounds, spread
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.runs.json_members import HIDDEN, OPTIONAL
from coalesced.tools.runs.words import plural

RINGS = (1, 2, 4, 8, 16, 64)  # pages of the table of predictions
SEED = 1


class Sizes(NamedTuple):
    """The size of a measurement; writes per repetition."""

    repetitions: int
    writes: int
    seconds: float


FULL = Sizes(repetitions=45, writes=1 << 15, seconds=35)
QUICK = Sizes(repetitions=2, writes=1 << 14, seconds=9)


class Constants(NamedTuple):
    """The constants of a wait policy, in nanoseconds."""

    round_trip: float
    full: float
    append: float
    dispatch: float

    def of_burst(self, point: Point) -> float:
        """The predicted nanoseconds of a burst."""
        each = self.append + self.dispatch
        exits = (point.full + 1) * self.round_trip + point.full * self.full
        return exits + point.queued * each

    def of_ring(self, pages: int) -> float:
        """The predicted nanoseconds from one full ring to the next."""
        each = self.append + self.dispatch
        return self.round_trip + self.full + usable(pages) * each


class Choice(NamedTuple):
    """The points of a run: all bursts in all rings."""

    policies: Sequence[str] = ("adaptive", "block")
    pages: Sequence[int] = (1, 4, 16, 64)
    bursts: Sequence[int] = (16, 64, 256, 1024, 4096, 16_384, 100_000)
    fitted_pages: Sequence[int] = (1, 64)
    fitted_bursts: Sequence[int] = (16, 256, 4096, 100_000)

    def points(self, wait: str) -> list[Point]:
        """All points of a policy."""
        return [Point(wait, pages, burst) for pages in self.pages for burst in self.bursts]

    def fitted_points(self, wait: str) -> list[Point]:
        """Those that the constants are fitted to."""
        return [p for p in self.points(wait) if self._is_fitted(p)]

    def tried_points(self, wait: str) -> list[Point]:
        """The others, whose cost is predicted."""
        return [p for p in self.points(wait) if not self._is_fitted(p)]

    def _is_fitted(self, point: Point) -> bool:
        return point.ring_pages in self.fitted_pages and point.burst in self.fitted_bursts


def fit(points: Sequence[Point], wholes: Sequence[float], drains: Sequence[float]) -> Constants:
    """Fit the constants to nanoseconds of bursts and of their drains.

    Of a drain a part is fixed; the rest is the dispatch of its entries.
    """
    round_trip, full, each = _least_squares(
        [(p.full + 1, p.full, p.queued) for p in points], wholes
    )
    _, dispatch = _least_squares([(p.full + 1, p.queued) for p in points], drains)
    return Constants(round_trip, full, each - dispatch, dispatch)


def _least_squares(rows: Sequence[Sequence[float]], costs: Sequence[float]) -> list[float]:
    """Coefficients of the columns with the least squares of the relative error."""
    columns = np.array(rows, float) / np.array(costs)[:, np.newaxis]
    found, *_ = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=None)
    return [float(each) for each in found]


class Measured:
    """A point, its bursts and their drains. The first run warms up."""

    def __init__(self, point: Point, bursts: Bursts, writes: int) -> None:
        self._measure = partial(bursts.measure, point, writes)
        self._drains: list[float] = []  # one per run

    def run(self) -> float:
        """Nanoseconds of a burst, NaN for none."""
        whole, drains = self._measure()
        self._drains.append(drains)
        return whole

    def drains(self) -> list[float]:
        """Nanoseconds of the drains of a burst, for each run that counts and has them."""
        return [each for each in self._drains[1:] if not math.isnan(each)]


class Fitted(NamedTuple):
    """The fitted constants of a policy."""

    middle: Constants  # medians
    each: dict[str, Spread]  # by constant, a sample per repetition


def plan(options: Options) -> Plan:
    """Measure all points, fit some, and predict the others."""
    sizes, choice = QUICK if options.quick else FULL, Choice()
    points = sum(len(choice.points(wait)) for wait in choice.policies)
    return Plan(
        rounds(sizes.repetitions) * points,
        sizes.seconds,
        lambda step: measure(choice, sizes, step),
    )


def measure(choice: Choice, sizes: Sizes, step: Step) -> report.Section:
    """Measure all points in turns."""
    subjects: dict[str, Measured] = {}
    with ExitStack() as stack:
        for wait in choice.policies:
            machines = {
                pages: stack.enter_context(closing(Bursts(wait, pages))) for pages in choice.pages
            }
            for point in choice.points(wait):
                subjects[str(point)] = Measured(point, machines[point.ring_pages], sizes.writes)
        runs = {name: subject.run for name, subject in subjects.items()}
        taken = interleaved(runs, sizes.repetitions, step, Random(SEED))
    drains = Taken({n: spread(each) for n, s in subjects.items() if (each := s.drains())})
    return section(choice, taken, drains)


def constants(choice: Choice, wait: str, taken: Taken, drains: Taken) -> Fitted | None:
    """The constants, fitted per repetition; None without a whole repetition."""
    points = choice.fitted_points(wait)
    names = [str(point) for point in points]
    whole = min(len(figures[name].samples) for name in names for figures in (taken, drains))
    if whole == 0:
        return None
    fits = [
        fit(
            points,
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
        ns = found.of_ring(pages)
        return cls(pages, ns / (usable(pages) + 1), ns / 1e3)


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
        figure = taken[str(point)].scaled(1 / point.burst)
        predicted = found.middle.of_burst(point) / point.burst
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
        "The model: ns of a burst = exits * round trip + full rings * full + queued * (append + "
        f"dispatch); error of a prediction: median {figures.error_percent.median:.1f} %, greatest "
        f"{figures.error_percent.greatest:.1f} %"
    )
    return report.Section("model", figures, title, "ns", list(_rows(figures)))


_PAID = {
    "round_trip": "once per batch, with the load that ends a burst",
    "full": "more, where a write that found the ring full ends the batch",
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
