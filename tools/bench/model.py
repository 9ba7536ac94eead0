"""What a write costs, from three constants: fitted here, and tried on points that were not fitted.

A guest that writes fills the ring, leaves once, and waits while the VMM carries the batch out:

    nanoseconds per write = round trip / writes per exit + append + dispatch

Round trip: all that comes once per batch, the exit and its answer and what the dispatch of a batch
costs whatever its length. Append: the guest's part per entry. Dispatch: the VMM's.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
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
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.loop import Loop
from coalesced.vmm.machine import Machine

GUEST = "coalesced.tools.guests.bench:vga"
POLICIES = ("adaptive", "block")
FIT_PAGES = 64
FITTED = (16, 169, 1024, 4096)  # writes between two exits, in a ring that they never fill
TRIED_BURST = 64
TRIED_RINGS = (1, 2, 8)  # pages, filled to the last slot
RINGS = (1, 2, 4, 8, 16, 64)  # pages of the table of predictions


class Sizes(NamedTuple):
    """How much a measurement is; writes per repetition."""

    repetitions: int
    writes: int
    seconds: float


FULL = Sizes(repetitions=6, writes=1 << 17, seconds=45)
QUICK = Sizes(repetitions=2, writes=1 << 15, seconds=15)


class Point(NamedTuple):
    """A guest that leaves after every `burst` writes, or, with 0, when the ring is full."""

    wait: str
    ring_pages: int
    burst: int = 0

    @property
    def per_exit(self) -> int:
        """Writes per exit: with a full ring the one that exits, too."""
        return self.burst or usable(self.ring_pages) + 1

    @property
    def queued(self) -> int:
        """Those that go through the ring."""
        return self.burst or usable(self.ring_pages)

    def __str__(self) -> str:
        what = (
            f"{self.burst:,} writes and a load"
            if self.burst
            else f"a full ring of {report.plural(self.ring_pages, 'page')}"
        )
        return f"--wait {self.wait}: {what}"


class Constants(NamedTuple):
    """Nanoseconds."""

    round_trip: float
    append: float
    dispatch: float

    def per_write(self, point: Point) -> float:
        """What the model says."""
        each = self.append + self.dispatch
        return (self.round_trip + point.queued * each) / point.per_exit


def fitted_points(wait: str) -> list[Point]:
    """What the constants come from."""
    return [Point(wait, FIT_PAGES, burst) for burst in FITTED]


def tried_points(wait: str) -> list[Point]:
    """What they are tried on."""
    return [Point(wait, FIT_PAGES, TRIED_BURST), *(Point(wait, pages) for pages in TRIED_RINGS)]


def fit(bursts: Sequence[int], cycles: Sequence[float], drains: Sequence[float]) -> Constants:
    """The constants, from nanoseconds per cycle and of its drain, by batch length.

    Two lines by least squares of the relative error: a cycle is the round trip and, per entry,
    append and dispatch; a drain is a fixed part and, per entry, dispatch.
    """
    round_trip, both = _line(bursts, cycles)
    _, dispatch = _line(bursts, drains)
    return Constants(round_trip, both - dispatch, dispatch)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """(intercept, slope)."""
    weights = 1 / np.array(y)
    columns = np.stack((np.ones(len(x)), np.array(x, float)), axis=1) * weights[:, None]
    (intercept, slope), *_ = np.linalg.lstsq(columns, np.ones(len(x)), rcond=None)
    return float(intercept), float(slope)


class Timed:
    """An accelerator that notes when exits arrive and how long the drain behind each takes."""

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
    """A point, and how long its drains took beside what `run` returns."""

    def __init__(self, point: Point, writes: int) -> None:
        self.point = point
        self._writes = max(writes, 8 * point.per_exit)
        self.drains: list[float] = []  # nanoseconds, one per run

    def run(self) -> float:
        """Nanoseconds of the median cycle, from one exit's arrival to the next one's."""
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
    """The constants of a policy."""

    middle: Constants  # medians
    each: dict[str, Spread]  # by constant, a sample per repetition


def plan(options: Options) -> Plan:
    """Fit, predict, and measure what was predicted."""
    sizes = QUICK if options.quick else FULL
    points = len(FITTED) + 1 + len(TRIED_RINGS)
    steps = rounds(sizes.repetitions) * len(POLICIES) * points
    return Plan(steps, sizes.seconds, lambda step: measure(sizes, step))


def measure(sizes: Sizes, step: Step) -> report.Section:
    """Measure the points that are fitted and those that are predicted, in turns."""
    points = [p for wait in POLICIES for p in (*fitted_points(wait), *tried_points(wait))]
    subjects = {str(point): Measured(point, sizes.writes) for point in points}
    runs = {name: subject.run for name, subject in subjects.items()}
    taken = interleaved(runs, sizes.repetitions, step)
    drains = Taken({n: spread(s.drains[1:]) for n, s in subjects.items() if len(s.drains) > 1})
    return section(taken, drains)


def constants(wait: str, taken: Taken, drains: Taken) -> Fitted | None:
    """Fitted per repetition; None when Ctrl-C left too little."""
    names = [str(point) for point in fitted_points(wait)]
    whole = min(len(figures[name].samples) for name in names for figures in (taken, drains))
    if whole == 0:
        return None
    fits = [
        fit(
            FITTED,
            [taken[name].samples[number] for name in names],
            [drains[name].samples[number] for name in names],
        )
        for number in range(whole)
    ]
    each = {name: spread([getattr(one, name) for one in fits]) for name in Constants._fields}
    return Fitted(Constants(*(figure.median for figure in each.values())), each)


def section(taken: Taken, drains: Taken) -> report.Section:
    """The constants, and each prediction beside what was measured."""
    rows: list[report.Row] = []
    fitted = {wait: constants(wait, taken, drains) for wait in POLICIES}
    errors: list[float] = []
    predictions: list[dict[str, object]] = []
    for wait, found in fitted.items():
        if found is None:
            continue
        rows += [(f"--wait {wait}: {name.replace('_', ' ')}", figure, _WHAT[name])
                 for name, figure in found.each.items()]  # fmt: skip
        for point in tried_points(wait):
            figure = taken[str(point)].scaled(1 / point.per_exit)
            predicted = found.middle.per_write(point)
            error = (predicted / figure.median - 1) * 100
            if figure.samples:
                errors.append(abs(error))
            remark = f"per write; predicted {report.text(predicted)} ns, {error:+.1f} %"
            rows.append((str(point), figure, remark))
            predictions.append(
                {
                    **point._asdict(),
                    "measured_ns_per_write": report.rounded(figure.median),
                    "predicted_ns_per_write": report.rounded(predicted),
                    "error_percent": report.rounded(error),
                }
            )
    values: dict[str, object] = {
        "constants": {
            wait: {
                f"{name}_ns": report.rounded(value) for name, value in f.middle._asdict().items()
            }
            for wait, f in fitted.items()
            if f is not None
        },
        "predictions": predictions,
        "error_percent": {
            "median": report.rounded(statistics.median(errors)) if errors else None,
            "greatest": report.rounded(max(errors)) if errors else None,
        },
        "spread": {wait: report.spreads(f.each) for wait, f in fitted.items() if f is not None},
    }
    spinning, sleeping = (fitted[wait] for wait in POLICIES)
    if spinning is not None and sleeping is not None:
        cross = crossover(spinning.middle, sleeping.middle)
        values["crossover"] = {name: report.rounded(value) for name, value in cross.items()}
        figure = NOTHING._replace(median=cross["wake_up_ns"])
        remark = f"as long as the dispatch of {cross['entries']:,.0f} entries"
        rows.append(("what a sleep and its wake-up add", figure, remark))
    if spinning is not None:
        values["rings"] = [ring(spinning.middle, pages) for pages in RINGS]
        rows += [_ring_row(spinning.middle, pages) for pages in RINGS]
    title = (
        "The model: ns per write = round trip / writes per exit + append + dispatch; "
        f"greatest error of a prediction {max(errors, default=float('nan')):.1f} %"
    )
    return report.Section("model", values, title, "ns", rows)


_WHAT = {
    "round_trip": "once per batch",
    "append": "per entry, by the guest",
    "dispatch": "per entry, by the VMM",
}


def crossover(spinning: Constants, sleeping: Constants) -> dict[str, float]:
    """Where a wait by spinning burns as much CPU as a sleep and its wake-up take.

    The guest waits as long as the VMM dispatches: a batch that takes longer than a wake-up costs
    is better slept through, if something else wants the CPU.
    """
    wake = sleeping.round_trip - spinning.round_trip
    return {"wake_up_ns": wake, "entries": wake / spinning.dispatch}


def ring(found: Constants, pages: int) -> dict[str, float]:
    """What a ring of so many pages comes to, for a guest that only writes.

    `oldest_us`: how long its first write waits at most until the device has seen it, as the guest
    fills the rest and the VMM carries the batch out.
    """
    point = Point("adaptive", pages)
    oldest = found.round_trip + point.queued * (found.append + found.dispatch)
    return {
        "ring_pages": pages,
        "predicted_ns_per_write": round(found.per_write(point), 3),
        "oldest_us": round(oldest / 1e3, 3),
    }


def _ring_row(found: Constants, pages: int) -> report.Row:
    told = ring(found, pages)
    figure = NOTHING._replace(median=found.per_write(Point("adaptive", pages)))
    what = f"predicted: a full ring of {report.plural(pages, 'page')}"
    return what, figure, f"its oldest write waits up to {told['oldest_us']:,.0f} us"
