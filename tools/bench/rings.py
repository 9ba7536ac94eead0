"""A network card beside a screen: one ring for both devices, or one each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.e1000 import E1000
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, percentile, rounds
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest
from coalesced.tools.runs.words import plural
from coalesced.vmm import pc
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from coalesced.vmm.own_rings import DEVICE, VM

PAGES: Final = (1, 2, 4, 8)
PAUSE_US: Final = 100  # of the vCPU that draws, behind each burst
STALENESS: Final = 0.002  # seconds; else what is less than half a ring would wait for the end


class Load(NamedTuple):
    """An amount of drawing."""

    key: str
    words: str
    burst: int  # writes


LOADS: Final = (
    Load("light", "64 writes every 100 us", 64),
    Load("heavy", "4,000 writes every 100 us", 4_000),
)
WAYS: Final = {VM: "one ring", DEVICE: "a ring per device"}


class Sizes(NamedTuple):
    """The size of a measurement."""

    repetitions: int
    exits: int  # of a run


FULL: Final = Sizes(7, 1_000)
QUICK: Final = Sizes(2, 100)


@dataclass(frozen=True)
class Times:
    """Microseconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, ns: NDArray[np.int64]) -> Times:
        """Those of single measurements."""
        return cls(percentile(ns, 50), percentile(ns, 99), float(ns.max()) / 1e3)

    def __str__(self) -> str:
        return "/".join(report.text(each) for each in (self.p50, self.p99, self.max))


@dataclass(frozen=True)
class Beside:
    """One load, one size of the rings, one way; None without a run."""

    exit_us: Times | None  # the network card's
    age_us: Times | None  # of writes to the screen, when they reach it; medians of the runs


@dataclass(frozen=True)
class RingsFigures:
    """By load, way and pages of each ring."""

    light: Mapping[str, Mapping[int, Beside]]
    heavy: Mapping[str, Mapping[int, Beside]]


class Subject:
    """A machine with a screen and a network card, made anew for each run."""

    def __init__(self, load: Load, rings: str, pages: int, exits: int) -> None:
        """`exits` of the network card in a run."""
        self.load, self.rings, self.pages = load, rings, pages
        self._loads = exits
        self._exits: list[NDArray[np.int64]] = []
        self._ages: list[Times] = []

    def __str__(self) -> str:
        return f"{self.load.words}, {WAYS[self.rings]} of {plural(self.pages, 'page')}"

    def measure(self) -> float:
        """The median time of an exit, in microseconds."""
        accel = ProcessAccelerator(GuestProcess(), self.pages, WaitPolicy.ADAPTIVE, vcpus=2)
        with Machine(accel, rings=self.rings, staleness=STALENESS) as machine:
            pc.add_ram(machine)
            screen = pc.add_vga(machine)
            card = E1000()
            machine.add_device(card)
            machine.memory.map(card.mmio, guest.CARD)
            draws = {"burst": self.load.burst, "pause_us": PAUSE_US}
            machine.run(f"{guest.__name__}:beside", {"loads": self._loads, **draws})
            raw = machine.ram[0].read(guest.BESIDE_STAMPS, 8 * self._loads)
            name = screen.name if self.rings == DEVICE else VM
            [ring] = (each.ring.core for each in machine.queues if each.name == name)
            waits = ring.waits()
            assert waits is not None, "the guest stops after the screen has been drawn on"
        self._exits.append(np.frombuffer(raw, np.int64))
        self._ages.append(Times(*(ns / 1e3 for ns in waits[:3])))
        return float(np.median(self._exits[-1])) / 1e3

    def figures(self) -> Beside:
        """Those of the runs so far, without the first one, which warms up."""
        if len(self._exits) < 2:
            return Beside(None, None)
        ages = zip(*((each.p50, each.p99, each.max) for each in self._ages[1:]), strict=True)
        age = Times(*(float(np.median(each)) for each in ages))
        return Beside(Times.of(np.concatenate(self._exits[1:])), age)


def plan(options: Options) -> Plan:
    """Every load, with rings of all sizes or of one."""
    sizes = QUICK if options.quick else FULL
    pages = (options.ring_pages,) if options.ring_pages else PAGES
    steps = len(LOADS) * len(WAYS) * len(pages) * rounds(sizes.repetitions)
    seconds = steps * (0.4 + sizes.exits * 150e-6)
    return Plan(steps, seconds, lambda step: measure(pages, sizes, step))


def measure(pages: Sequence[int], sizes: Sizes, step: Step) -> report.Section:
    """Measure in turns, so that a disturbance meets all."""
    subjects = [
        Subject(load, rings, size, sizes.exits)
        for load in LOADS
        for rings in WAYS
        for size in pages
    ]
    taken = interleaved({str(each): each.measure for each in subjects}, sizes.repetitions, step)
    return section(pages, subjects, taken)


def section(pages: Sequence[int], subjects: Sequence[Subject], taken: Taken) -> report.Section:
    """A row for each load, way and size."""
    found = {(each.load.key, each.rings, each.pages): each.figures() for each in subjects}
    figures = RingsFigures(
        **{
            load.key: {way: {n: found[load.key, way, n] for n in pages} for way in WAYS}
            for load in LOADS
        }
    )
    rows = [_row(each, taken[str(each)]) for each in subjects]
    title = "An exit of a network card beside a screen that another vCPU draws on"
    return report.Section("rings", figures, title, "us", rows, charts=tuple(_charts(figures)))


def _row(subject: Subject, median: Spread) -> report.Row:
    figures = subject.figures()
    remark = ""
    if figures.exit_us is not None:
        remark = (
            f"an exit, p50/p99/max: {figures.exit_us} us; "
            f"age of a write to the screen: {figures.age_us} us"
        )
    return report.Row(str(subject), median, remark)


def _charts(figures: RingsFigures) -> Iterator[report.Chart]:
    """Of each load: the 99th percentiles over the size of the rings."""
    for load, ways in zip(LOADS, (figures.light, figures.heavy), strict=True):
        lines = [
            (f"{what}, {WAYS[way]}", _points(by_pages, times))
            for what, times in (("an exit", "exit_us"), ("age of a write", "age_us"))
            for way, by_pages in ways.items()
        ]
        yield report.Chart(f"p99, {load.words}", "pages of a ring", "us", tuple(lines))


def _points(by_pages: Mapping[int, Beside], times: str) -> list[tuple[float, float]]:
    found = {pages: getattr(each, times) for pages, each in by_pages.items()}
    return [(float(pages), each.p99) for pages, each in found.items() if each is not None]
