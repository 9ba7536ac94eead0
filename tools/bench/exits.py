"""The cost of an exit: a load that leaves the guest, reaches a device and returns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.region import Region
from coalesced.hv.doorbell import WaitPolicy
from coalesced.tools.bench import floors, host, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, percentile, rounds
from coalesced.tools.bench.parked import Parked, ignore
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest
from coalesced.tools.runs.json_members import OPTIONAL

POLICIES = ("block", "adaptive", "poll")
FLOORS = ("pipe", "ppoll", "eventfd", "socketpair", "futex", "spin")  # of floors.ping_pong
NAMES = (*POLICIES, *FLOORS)
FLOOR, POLLED = FLOORS[:2]  # of a blocking exit; the same of one that notices other news, too
PERCENTILES = (50.0, 99.0, 99.9)

Times = NDArray[np.int64]  # nanoseconds


class Sizes(NamedTuple):
    """The size of a measurement; round trips per repetition."""

    repetitions: int
    sleeping: int  # where a round trip may take tens of microseconds
    spinning: int
    single: int  # of those that are timed one by one
    seconds: float


# 11 times 9,100 make 10**5 single round trips of each.
FULL = Sizes(repetitions=9, sleeping=2_000, spinning=20_000, single=9_100, seconds=25)
SHORT = Sizes(repetitions=5, sleeping=500, spinning=500, single=0, seconds=1)
QUICK = Sizes(repetitions=3, sleeping=500, spinning=2_000, single=1_000, seconds=5)


class Exits(Parked):
    """A machine whose guest loads on demand: from its registers, or from where loads are timed."""

    def __init__(self, policy: WaitPolicy, placement: str, singles: int = 0) -> None:
        """`singles`: how many round trips `singly` can time."""
        super().__init__(1, policy, placement)
        self._stamps = np.zeros(2 + singles, np.int64)  # their number, then the times
        with self.building("coalesced.tools.guests.bench:exits"):
            self.add_control()
            # In C, and beside the other one: what is timed is the exit, not the clock in Python.
            stamped = floors.stamper(self._stamps)
            region = Region("bench-stamped", guest.REGISTERS_SIZE, stamped, ignore)
            self.machine.memory.map(region, guest.STAMPED)

    def measure(self, count: int, address: int = guest.PROBE) -> float:
        """Nanoseconds per round trip, mean of `count`."""
        self.command = count | address << 32
        # The load of the command and the final halt are exits as well.
        return self.resume() / (count + 2)

    def singly(self, count: int) -> Times:
        """Time `count` round trips one by one, from a load's arrival to the next one's."""
        stamps = self._stamps
        stamps[0] = 0
        self.measure(count + 1, guest.STAMPED)
        return np.diff(stamps[1 : 1 + stamps[0]])


def shortly() -> float:
    """Nanoseconds of an exit with --wait adaptive, the median of a few thousand: under a second."""
    with closing(Exits(WaitPolicy.ADAPTIVE, host.placements()[0])) as exits:
        exits.measure(SHORT.sleeping)
        return statistics.median(exits.measure(SHORT.sleeping) for _ in range(SHORT.repetitions))


class Placement:
    """Round trips of the policies and the floors on one placement."""

    def __init__(self, placement: str, sizes: Sizes, stack: ExitStack) -> None:
        self._placement = placement
        self._sizes = sizes
        self._cpus = host.cpus_of(placement)
        self._single: dict[str, list[Times]] = {key_of(placement, name): [] for name in NAMES}
        self._exits: dict[str, Exits] = {}
        for policy in POLICIES:
            exits = Exits(WaitPolicy.named(policy), placement, sizes.single)
            self._exits[policy] = stack.enter_context(closing(exits))

    def subjects(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """Each subject by name; the floor right before the policy that is compared with it."""
        for kind in FLOORS[::-1]:
            count = self._sizes.spinning if self._spins(kind) else self._sizes.sleeping
            yield key_of(self._placement, kind), partial(floors.ping_pong, kind, count, *self._cpus)
        for policy, exits in self._exits.items():
            count = self._sizes.spinning if self._spins(policy) else self._sizes.sleeping
            yield key_of(self._placement, policy), partial(exits.measure, count)

    def timed(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """The same subjects, each round trip timed."""
        for name in (*FLOORS[::-1], *POLICIES):
            yield key_of(self._placement, name), partial(self._time, name)

    def _time(self, name: str) -> float:
        each = np.zeros(self._sizes.single, np.int64)
        if name in FLOORS:
            floors.ping_pong(name, len(each), *self._cpus, each)
        else:
            each = self._exits[name].singly(self._sizes.single)
        self._single[key_of(self._placement, name)].append(each)
        return float(each.mean())

    def singles(self) -> dict[str, Times]:
        """All single round trips by subject."""
        nothing = np.zeros(0, np.int64)
        return {name: np.concatenate([nothing, *times]) for name, times in self._single.items()}

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
        sides = [Placement(placement, sizes, stack) for placement in placements]
        subjects = {name: run for s in sides for name, run in s.subjects()}
        taken = interleaved(subjects, sizes.repetitions, step)
        timed = {name: run for s in sides for name, run in s.timed()}
        if not stopped():
            interleaved(timed, sizes.repetitions - 1, step)  # warm already: every round counts
        singles = {name: times for s in sides for name, times in s.singles().items()}
    return section(placements, taken, singles)


@dataclass(frozen=True)
class PlacementFigures:
    """Round trips on one placement, in microseconds; None where it was not measured."""

    floor_pipe_us: Spread | None = None
    block_us: Spread | None = None
    adaptive_us: Spread | None = None
    poll_us: Spread | None = None
    floor_ppoll_us: Spread | None = field(default=None, metadata=OPTIONAL)
    floor_eventfd_us: Spread | None = field(default=None, metadata=OPTIONAL)
    floor_socketpair_us: Spread | None = field(default=None, metadata=OPTIONAL)
    floor_futex_us: Spread | None = field(default=None, metadata=OPTIONAL)
    floor_spin_us: Spread | None = field(default=None, metadata=OPTIONAL)
    block_ratio: float | None = field(default=None, metadata=OPTIONAL)
    block_p50_ratio: float | None = field(default=None, metadata=OPTIONAL)
    p50_us: Mapping[str, float] | None = field(default=None, metadata=OPTIONAL)
    p99_us: Mapping[str, float] | None = field(default=None, metadata=OPTIONAL)
    p99_9_us: Mapping[str, float] | None = field(default=None, metadata=OPTIONAL)
    max_us: Mapping[str, float] | None = field(default=None, metadata=OPTIONAL)
    # Number of single round trips.
    singles: Mapping[str, int] | None = field(default=None, metadata=OPTIONAL)
    spread: Mapping[str, tuple[float, float]] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class ExitFigures(PlacementFigures):
    """The figures of two CPUs, and within them those of one."""

    same: PlacementFigures = PlacementFigures()


def section(
    placements: Sequence[str], taken: Taken, singles: Mapping[str, Times]
) -> report.Section:
    """Microseconds per round trip; `singles` in nanoseconds."""
    us = Taken({name: figure.scaled(1e-3) for name, figure in taken.items()})
    split = _figures("split", us, singles) if "split" in placements else PlacementFigures()
    figures = ExitFigures(**vars(split), same=_figures("same", us, singles))
    rows = [_row(placement, name, us, singles) for placement in placements for name in NAMES]
    title = "The round trip of an exit, a load, and of bare C"
    counted = {name: times for name, times in singles.items() if len(times)}
    chart = _chart(placements[0], singles)
    return report.Section("exit", figures, title, "us", rows, counted, (chart,))


def _row(placement: str, name: str, us: Taken, singles: Mapping[str, Times]) -> report.Row:
    key = key_of(placement, name)
    times = singles[key]
    remark = ""
    if len(times):
        points = [(f"p{percent:g}", percent) for percent in PERCENTILES]
        remark = "single ones: " + ", ".join(
            f"{point} {report.text(percentile(times, percent))} us"
            for point, percent in [*points, ("max", 100.0)]
        )
    if name in POLICIES:
        bare, polled = (
            us[key].median / us[key_of(placement, each)].median for each in (FLOOR, POLLED)
        )
        remark = f"{bare:.2f} times the pipe, {polled:.2f} times ppoll; {remark}"
    return report.Row(key, us[key], remark)


def _figures(placement: str, us: Taken, singles: Mapping[str, Times]) -> PlacementFigures:
    figures = {f"floor_{kind}_us": us[key_of(placement, kind)] for kind in FLOORS}
    figures |= {f"{policy}_us": us[key_of(placement, policy)] for policy in POLICIES}
    single = {name: singles[key_of(placement, name)] for name in NAMES}
    p50, p99, p99_9, longest = (
        {name: percentile(times, percent) for name, times in single.items()}
        for percent in (*PERCENTILES, 100.0)
    )
    return PlacementFigures(
        **figures,
        block_ratio=figures["block_us"].median / figures[f"floor_{FLOOR}_us"].median,
        block_p50_ratio=p50["block"] / p50[FLOOR],
        p50_us=p50,
        p99_us=p99,
        p99_9_us=p99_9,
        max_us=longest,
        singles={name: len(times) for name, times in single.items()},
        spread=report.ends(figures),
    )


def _chart(placement: str, singles: Mapping[str, Times]) -> report.Chart:
    keys = [key_of(placement, name) for name in NAMES]
    lines = tuple((key.removeprefix(f"{placement}: "), tail(singles[key])) for key in keys)
    title = f"Exits and bare C round trips, CPUs {placement}"
    return report.Chart(title, "one in this many takes longer", "us", lines)


def tail(nanoseconds: Times) -> list[tuple[float, float]]:
    """(n, microseconds that one in n exceeds) for a chart."""
    if len(nanoseconds) < 2:
        return []
    odds = np.geomspace(1, len(nanoseconds), 120)
    ordered = np.sort(nanoseconds)
    at = np.minimum((len(ordered) * (1 - 1 / odds)).astype(int), len(ordered) - 1)
    return list(zip(odds.tolist(), (ordered[at] / 1e3).tolist(), strict=True))
