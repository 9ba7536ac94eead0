"""The effect of coalescing on a network card: frames per second, and CPU time per frame."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import psutil

from coalesced.hv.doorbell import WaitPolicy
from coalesced.tools.bench import host, iperf, report
from coalesced.tools.bench.far_end import FarProcess, NearEnd
from coalesced.tools.bench.measure import Step, interleaved, rounds, spread
from coalesced.tools.bench.parked import Parked
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.bench import Order, Report
from coalesced.tools.guests.network.packets import PAYLOAD_AT
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs.exchange import LOOPBACK, free_ports
from coalesced.tools.runs.options import NetworkOptions
from coalesced.tools.runs.results import Sides
from coalesced.vmm import pc

GUEST: Final = "coalesced.tools.guests.network.bench:run"
LENGTH: Final = 1428  # bytes of UDP payload: frames of 1,470 bytes
WINDOW: Final = 128  # frames under way
SECONDS: Final = 36.0  # about what all of it takes
STALENESS: Final = 0.010  # seconds, as every command with a network has it

LINUX: Final = "transmit"
SPINNING: Final = "transmit_spinning"
BURST: Final = "transmit_burst"
RECEIVE: Final = "receive"


COALESCED: Final = "coalesced"  # what QEMU's card queues: of sending, all but TDT
EXIT: Final = "exit"  # every write exits
POSTED: Final = "posted"  # as coalesced, and TDT is posted
WAYS: Final = {COALESCED: "coalesced", EXIT: "every write exits", POSTED: "TDT posted, too"}


class Kind(NamedTuple):
    """A kind of traffic."""

    title: str
    order: str
    each: int  # frames for each write of the tail
    ack_every: int  # frames that the far end acknowledges by one
    frames: int  # of a run
    runs: int = 1  # in a round
    wait: str = "adaptive"
    near: bool = False  # the far end is in the VMM's process
    ways: Sequence[str] = (COALESCED, EXIT)


_EACH: Final = "transmit as in Linux's trace"

# The first is what the recorded trace of Linux's driver shows: 20,122 writes of TDT and 18,793 of
# RDT, an acknowledgement for each transmission. Its exits are signals through pipes: as with KVM,
# their cost includes the switch to a sleeping thread. Linux batches both where the stack allows it.
# Where the wake-up of a third process would dominate the measurement, the far end is near, and the
# runs are short: a gain is computed from two neighbours, since the machine's speed drifts.
KINDS: Final = {
    LINUX: Kind(_EACH, "transmit", 1, 1, 400, 2, wait="block", near=True, ways=tuple(WAYS)),
    SPINNING: Kind(_EACH, "transmit", 1, 1, 800, near=True, ways=tuple(WAYS)),
    BURST: Kind("transmit, TDT for 32 frames", "transmit", 32, 32, 12_000),
    RECEIVE: Kind("receive", "receive", 1, 32, 12_000),
}


class Sizes(NamedTuple):
    """The size of a measurement: rounds, and the part of each kind's frames in a run."""

    repetitions: int
    part: int = 1

    def frames_of(self, kind: str) -> int:
        return KINDS[kind].frames // self.part


FULL: Final = Sizes(10)  # half a million frames and more
QUICK: Final = Sizes(2, part=2)


@dataclass(frozen=True)
class TrafficFigures:
    """One kind of traffic, with coalescing or without; None without a run."""

    pps: float | None  # frames per second
    cpu_us_per_frame: Sides[float | None]  # microseconds
    exits_per_frame: float | None
    interrupts_per_frame: float | None


@dataclass(frozen=True)
class KindFigures:
    """One kind of traffic."""

    wait: str
    coalesced: TrafficFigures
    exit: TrafficFigures  # every write exits
    gain_percent: float | None
    gain_interval: tuple[float, float] | None  # of the median, 95 %
    posted: TrafficFigures | None  # with a posted TDT; None where it is not measured
    posted_gain_percent: float | None  # of that, over coalesced
    posted_gain_interval: tuple[float, float] | None


@dataclass(frozen=True)
class KindEnds:
    """Least and greatest of a kind of traffic."""

    coalesced_pps: tuple[float, float] | None
    exit_pps: tuple[float, float] | None
    gain_percent: tuple[float, float] | None


@dataclass(frozen=True)
class MemoryUse:
    """Resident bytes after the first round and after the last."""

    before: Sides[int]
    after: Sides[int]


@dataclass(frozen=True)
class E1000Figures:
    """Every kind of traffic, and above them what the trace of Linux shows."""

    coalesced_pps: float | None
    exit_pps: float | None
    gain_percent: float | None
    gain_interval: tuple[float, float] | None
    wait: str
    frame_bytes: int
    frames: int  # of all runs
    kinds: Mapping[str, KindFigures]
    rss_bytes: MemoryUse
    spread: Mapping[str, KindEnds]


@dataclass
class _Samples:
    """The runs of one kind of traffic."""

    pps: list[float] = field(default_factory=list)
    hv_us: list[float] = field(default_factory=list)
    vmm_us: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    interrupts: list[float] = field(default_factory=list)

    def figures(self) -> TrafficFigures:
        """The medians."""
        return TrafficFigures(
            median(self.pps),
            Sides(median(self.hv_us), median(self.vmm_us)),
            median(self.exits),
            median(self.interrupts),
        )

    def remark(self) -> str:
        """CPU time, exits and interrupts per frame, in words."""
        return (
            f"a frame: {median(self.hv_us):.1f} + {median(self.vmm_us):.1f} us of CPU, "
            f"{median(self.exits):.2f} exits, {median(self.interrupts):.2f} interrupts"
        )


class Link:
    """A guest with a card, and a far end, near or in a process of its own."""

    def __init__(self, policy: WaitPolicy, placement: str, way: str, near: bool) -> None:
        ours, theirs = free_ports()
        self.samples = {kind: _Samples() for kind in KINDS}
        self.frames = 0
        self._warm: set[str] = set()  # kinds that ran
        with ExitStack() as stack:
            # Before the guest's, whose CPU it would inherit.
            far = None if near else stack.enter_context(closing(FarProcess(theirs, ours)))
            self.vm = Parked(1, policy, placement, coalesce=way != EXIT, staleness=STALENESS)
            stack.enter_context(closing(self.vm))
            machine = self.vm.machine
            self._far = far or stack.enter_context(closing(NearEnd(machine.loop, theirs, ours)))
            netdev = f"dgram,id=n0,local={LOOPBACK}:{ours},remote={LOOPBACK}:{theirs}"
            card = "e1000,addr=03.0,netdev=n0" + ",tdt=posted" * (way == POSTED)
            with self.vm.building(GUEST):
                devices.board(machine, [card], pc.DEFAULT_MEMORY, NetworkOptions((netdev,)))
            self.vm.resume()
            self._stack = stack.pop_all()

    def measure(self, kind: str, frames: int) -> float:
        """Frames per second, from the guest's first to the last one's acknowledgement."""
        what = KINDS[kind]
        order = Order(what.order, frames, LENGTH, WINDOW, what.each, what.ack_every)
        machine = self.vm.machine
        memory.order(machine.dma.write, order)
        self._far.begin(order)
        exits = machine.counters.exits
        with self.vm.awake():
            cpu = time.process_time_ns()
            machine.resume()
            cpu = time.process_time_ns() - cpu
        said = Report(**memory.read_report(machine.dma.read))
        pps = frames / said.ns * 1e9
        self.frames += frames
        if kind not in self._warm:
            self._warm.add(kind)
        else:
            taken = self.samples[kind]
            taken.pps.append(pps)
            taken.hv_us.append(said.cpu_ns / frames / 1e3)
            taken.vmm_us.append(cpu / frames / 1e3)
            taken.exits.append((machine.counters.exits - exits) / frames)
            taken.interrupts.append(said.interrupts / frames)
        return pps

    def close(self) -> None:
        """End both processes."""
        self._stack.close()


Links = dict[str, Link]
"""By way."""


def measure(wait: str | None, sizes: Sizes, step: Step) -> report.Section:
    """Measure each kind of traffic with coalescing and without, in turns.

    `wait`: how both sides wait, None: as each kind has it.
    """
    placement = host.placements()[0]
    memory_use: list[Sides[int]] = []
    made: dict[tuple[str, bool, str], Link] = {}
    links: dict[str, Links] = {}
    with ExitStack() as stack:
        for kind, what in KINDS.items():
            for way in what.ways:
                which = wait or what.wait, what.near, way
                if which not in made:
                    policy = WaitPolicy.named(which[0])
                    link = Link(policy, placement, way, what.near)
                    made[which] = stack.enter_context(closing(link))
                links.setdefault(kind, {})[way] = made[which]
        subjects = {
            f"{kind} {run} {way}": partial(link.measure, kind, sizes.frames_of(kind))
            for kind, what in KINDS.items()
            for run in range(what.runs)
            for way, link in links[kind].items()
        }
        watched = links[BURST][COALESCED]
        calls = 0

        def counted() -> None:
            nonlocal calls
            calls += 1
            # After each kind ran once nothing is left to be allocated.
            if calls == len(subjects):
                memory_use.append(_rss(watched))
            step()

        interleaved(subjects, sizes.repetitions, counted)
        memory_use.append(_rss(watched))
    return section(links, wait, memory_use)


def steps(sizes: Sizes) -> int:
    """Calls of `step` that `measure` makes."""
    return rounds(sizes.repetitions) * sum(kind.runs * len(kind.ways) for kind in KINDS.values())


def plan(options: Options) -> Plan:
    """Each kind of traffic, or tests with an iperf server. Raises BadInput."""
    if options.iperf is not None or options.netdev:
        server = iperf.Server.of(options)
        return Plan(server.tests, server.tests * options.seconds, server.measure)
    sizes = QUICK if options.quick else FULL
    return Plan(steps(sizes), SECONDS, lambda step: measure(options.wait, sizes, step))


Ways = Mapping[str, _Samples]
"""By way."""


def section(
    links: Mapping[str, Links], wait: str | None, memory_use: Sequence[Sides[int]]
) -> report.Section:
    """Frames per second of every kind of traffic."""
    samples = {
        kind: {way: link.samples[kind] for way, link in ways.items()}
        for kind, ways in links.items()
    }
    kinds = {kind: _kind(wait or KINDS[kind].wait, ways) for kind, ways in samples.items()}
    each = {id(link): link.frames for ways in links.values() for link in ways.values()}
    first = kinds[LINUX]
    figures = E1000Figures(
        coalesced_pps=first.coalesced.pps,
        exit_pps=first.exit.pps,
        gain_percent=first.gain_percent,
        gain_interval=first.gain_interval,
        wait=first.wait,
        frame_bytes=LENGTH + PAYLOAD_AT,
        frames=sum(each.values()),
        kinds=kinds,
        rss_bytes=MemoryUse(memory_use[0], memory_use[-1]),
        spread={
            kind: KindEnds(_ends(ways[COALESCED].pps), _ends(ways[EXIT].pps), _ends(_gains(ways)))
            for kind, ways in samples.items()
        },
    )
    rows = [row for kind, ways in samples.items() for row in _rows(kind, kinds[kind].wait, ways)]
    title = f"Frames of {LENGTH + PAYLOAD_AT} bytes to or from another process"
    return report.Section("e1000", figures, title, "frames/s", rows)


def _kind(wait: str, ways: Ways) -> KindFigures:
    gains, posted = _gains(ways), ways.get(POSTED)
    posted_gains = _gains(ways, POSTED, COALESCED) if posted else []
    return KindFigures(
        wait,
        ways[COALESCED].figures(),
        ways[EXIT].figures(),
        median(gains),
        _interval(gains),
        posted.figures() if posted else None,
        median(posted_gains),
        _interval(posted_gains),
    )


def _rows(kind: str, wait: str, ways: Ways) -> list[report.Row]:
    """The rows of a kind of traffic; none without a run of each way."""
    gains = _gains(ways)
    if not gains:
        return []
    title = f"{KINDS[kind].title}, --wait {wait}"
    gain = spread(gains)
    rows = [
        report.Row(f"{title}, {WAYS[way]}", spread(ways[way].pps), ways[way].remark())
        for way in (COALESCED, EXIT)
    ]
    rows.append(report.Row("  gain, %", gain, gain.of_neighbours()))
    if POSTED in ways and (gains := _gains(ways, POSTED, COALESCED)):
        gain, posted = spread(gains), ways[POSTED]
        rows.append(report.Row(f"{title}, {WAYS[POSTED]}", spread(posted.pps), posted.remark()))
        rows.append(report.Row("  gain over coalesced, %", gain, gain.of_neighbours()))
    return rows


def _gains(ways: Ways, way: str = COALESCED, over: str = EXIT) -> list[float]:
    pairs = zip(ways[way].pps, ways[over].pps, strict=False)
    return [(one / other - 1) * 100 for one, other in pairs]


def _interval(gains: Sequence[float]) -> tuple[float, float] | None:
    return spread(gains).interval() if gains else None


def median(samples: Sequence[float]) -> float | None:
    """The median; None of no samples."""
    return statistics.median(samples) if samples else None


def _ends(samples: Sequence[float]) -> tuple[float, float] | None:
    return (min(samples), max(samples)) if samples else None


def _rss(link: Link) -> Sides[int]:
    hv, vmm = (psutil.Process(pid).memory_info().rss for pid in (link.vm.pid, os.getpid()))
    return Sides(hv, vmm)
