"""Several producers: the vCPUs of a VM on its one ring, and threads on one ring or on many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from coalesced.devices.bus.region import Region
from coalesced.tools.bench import floors, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.parked import Parked, ignore
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest

COUNTS: Final = (1, 2, 4, 8)
PAGES: Final = 8
BATCH: Final = 64  # entries per holding of the lock, as in a vCPU's bulk operation


class Sizes(NamedTuple):
    """The size of a measurement."""

    repetitions: int
    writes: int  # of all vCPUs together, in a run
    seconds: float  # that threads append


FULL: Final = Sizes(9, 4_000_000, 0.2)
QUICK: Final = Sizes(2, 200_000, 0.02)


class Way(NamedTuple):
    """An arrangement of several producers."""

    key: str
    label: str
    batch: int = BATCH
    own: bool = False  # a ring each


VCPUS: Final = (
    Way("one_vm", "vCPUs of a VM, one ring"),
    Way("vm_rings", "vCPUs of a VM, a ring each", own=True),
)
THREADS: Final = (
    Way("one_ring", "C threads, one ring under its lock"),
    Way("rings", "C threads, a ring each", own=True),
    Way("one_ring_each_published", "C threads, one ring, every entry published", 1),
    Way("rings_each_published", "C threads, a ring each, every entry published", 1, own=True),
)
WAYS: Final = (*VCPUS, *THREADS)


class Crowd(Parked):
    """A machine whose vCPUs all write as long as each has writes left.

    `own`: each to a device that has a ring of its own; else all to one device.
    """

    def __init__(self, vcpus: int, pages: int, own: bool) -> None:
        super().__init__(pages, placement="any", vcpus=vcpus)
        self._vcpus = vcpus
        with self.building("coalesced.tools.guests.bench:crowd", {"apart": own}):
            self.machine.add_ram(0, 0x1000)
            self.add_control()
            for number in range(vcpus if own else 1):
                self.machine.memory.map(_queue(own), guest.QUEUE + number * guest.QUEUE_SIZE)

    def measure(self, writes: int) -> tuple[float, float]:
        """Nanoseconds per write of all, and the least time of a vCPU over the greatest."""
        self.command = writes // self._vcpus
        ns = self.resume()
        raw = self.machine.ram[0].read(0, 16 * self._vcpus)
        began, ended = np.frombuffer(raw, np.int64).reshape(self._vcpus, 2).T
        taken = ended - began
        return ns / (self.command * self._vcpus), float(taken.min() / taken.max())


def _queue(own: bool) -> Region:
    """A page whose writes are queued, in the VM's ring or in one of its own."""
    return Region(
        "bench-queue",
        guest.QUEUE_SIZE,
        lambda _offset, _size: 0,
        ignore,
        coalesced=((0, guest.QUEUE_SIZE),),
        take_run=len,
        ring="own" if own else "vm",
    )


@dataclass(frozen=True)
class Figures:
    """Of some producers: all their entries, and how equal their shares are."""

    ns_per_entry: Spread
    fairness: float | None  # of the producer with the least over that with the most; the median


@dataclass(frozen=True)
class VcpusFigures:
    """By way, then by the number of producers."""

    ring_pages: int
    one_vm: Mapping[int, Figures]
    vm_rings: Mapping[int, Figures]
    one_ring: Mapping[int, Figures]
    rings: Mapping[int, Figures]
    one_ring_each_published: Mapping[int, Figures]
    rings_each_published: Mapping[int, Figures]


class Shares:
    """Measures a subject, and keeps the fairness of each measurement."""

    def __init__(self, measure: Callable[[], tuple[float, float]]) -> None:
        self._measure = measure
        self.fairness: list[float] = []

    def __call__(self) -> float:
        ns, fairness = self._measure()
        self.fairness.append(fairness)
        return ns

    def median(self) -> float | None:
        """Without the first one, which warms up."""
        return float(np.median(self.fairness[1:])) if len(self.fairness) > 1 else None


def plan(options: Options) -> Plan:
    """All ways with 1 to 8 producers."""
    sizes = QUICK if options.quick else FULL
    pages = options.ring_pages or PAGES
    steps = len(COUNTS) * len(WAYS) * rounds(sizes.repetitions)
    each = sizes.seconds * len(THREADS) + len(VCPUS) * sizes.writes * 30e-9
    seconds = len(COUNTS) * rounds(sizes.repetitions) * each
    return Plan(steps, seconds, lambda step: measure(pages, sizes, step))


def _name(way: Way, count: int) -> str:
    return f"{way.label}: {count}"


def measure(pages: int, sizes: Sizes, step: Step) -> report.Section:
    """Measure in turns, so that a disturbance meets all."""
    subjects: dict[str, Shares] = {}
    with ExitStack() as stack:
        for count in COUNTS:
            for way in VCPUS:
                crowd = stack.enter_context(closing(Crowd(count, pages, way.own)))
                subjects[_name(way, count)] = Shares(partial(crowd.measure, sizes.writes))
            for way in THREADS:
                subjects[_name(way, count)] = Shares(
                    partial(floors.producers, count, pages, way.batch, way.own, sizes.seconds)
                )
        taken = interleaved(subjects, sizes.repetitions, step)
    return section(pages, taken, {name: each.median() for name, each in subjects.items()})


def section(pages: int, taken: Taken, fairness: Mapping[str, float | None]) -> report.Section:
    """A row for each way and number of producers."""
    found = {
        way: {n: Figures(taken[_name(way, n)], fairness.get(_name(way, n))) for n in COUNTS}
        for way in WAYS
    }
    figures = VcpusFigures(pages, **{way.key: each for way, each in found.items()})
    rows = [_row(_name(way, n), found[way][n]) for way in WAYS for n in COUNTS]
    chart = report.Chart("Several producers", "producers", "ns per entry of all", _lines(found))
    title = f"Writes of several producers, all together, rings of {pages} pages, any CPU"
    return report.Section("vcpus", figures, title, "ns", rows, charts=(chart,))


def _row(what: str, figures: Figures) -> report.Row:
    share = figures.fairness
    remark = "" if share is None else f"the least share is {share:.0%} of the greatest"
    return report.Row(what, figures.ns_per_entry, remark)


def _lines(found: Mapping[Way, Mapping[int, Figures]]) -> tuple[report.Line, ...]:
    def points(each: Mapping[int, Figures]) -> Sequence[tuple[float, float]]:
        return [(float(n), figures.ns_per_entry.median) for n, figures in each.items()]

    return tuple((way.label, list(points(each))) for way, each in found.items())
