"""The cost of a planar VGA write, from the guest's store to video memory, and of a load."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from coalesced.devices.bus.region import ReadHandler
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host, kvm, machine_code, report
from coalesced.tools.bench.measure import NOTHING, Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.qemu import ACCELERATORS, Qemu, Unusable
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests.bench import PLANAR_SIZE, scattered
from coalesced.tools.runs.json_members import OPTIONAL
from coalesced.tools.runs.words import plural
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

GUEST = "coalesced.tools.guests.bench:vga"
RINGS = (1, 16, 2, 4, 64)  # pages; the first is the one that all others are compared with
POLICIES = ("adaptive", "block", "poll")
BURST_PAGES = 16
PATTERNS = ("scattered", "filled")
LOADS = "loads"  # scattered ones, no writes
HANDLER = "handler"  # instead of an accelerator: the device's function called from Python
MACHINE_CODE = "rep stosb, machine code"  # QEMU's loop is the same
SAMPLE_SECONDS = 0.05  # of QEMU's loop; each of its two ends is noticed some 10 us late


class Sizes(NamedTuple):
    """The size of a measurement; writes per repetition."""

    repetitions: int
    writes: int  # of the figures that others are compared with
    shorter: int  # of the rest
    exits: int  # of a guest whose every access exits
    on_kvm: int  # where a guest's own instructions may be emulated
    seconds: float


FULL = Sizes(
    repetitions=4, writes=1 << 20, shorter=1 << 18, exits=30_000, on_kvm=1 << 17, seconds=56
)
QUICK = Sizes(
    repetitions=2, writes=1 << 17, shorter=1 << 15, exits=3_000, on_kvm=1 << 14, seconds=30
)


@dataclass(frozen=True)
class Subject:
    """A guest that writes to video memory, and its machine."""

    accel: str = "process"
    ring_pages: int = 1
    wait: str = "adaptive"
    coalesce: bool = True
    burst: int = 0  # writes between two loads, 0: no loads
    pattern: str = "scattered"

    def __str__(self) -> str:
        if self.pattern == LOADS:
            alone = self.accel == HANDLER
            return "a load's handler alone" if alone else f"every load exits, --wait {self.wait}"
        what = f"{self.burst:,} writes and a load" if self.burst else self.pattern
        if self.accel == "direct":
            return f"direct, one process: {what}"
        way = f"ring of {plural(self.ring_pages, 'page')}"
        if not self.coalesce:
            way = "every write exits"
        return f"{way}, --wait {self.wait}: {what}"


HANDLER_ALONE = Subject(HANDLER, coalesce=False, pattern=LOADS)


class Choice(NamedTuple):
    """The subjects of a run."""

    rings: Sequence[int] = RINGS
    wait: str = "adaptive"
    on_kvm: bool = False
    bursts: Sequence[int] = (16, 64, 256, 1024)  # writes between two loads
    policies: Sequence[str] = POLICIES
    qemu: Sequence[str] = ACCELERATORS
    code_missing: str = ""  # why no machine code is measured

    def coalesced(self) -> list[Subject]:
        """With coalescing, a subject per size of the ring."""
        return [Subject(ring_pages=pages, wait=self.wait) for pages in self.rings]

    def exit(self) -> Subject:
        """Without coalescing."""
        return Subject(wait=self.wait, coalesce=False)

    def load(self) -> Subject:
        """Loads, each of which exits."""
        return replace(self.exit(), pattern=LOADS)

    def subjects(self) -> list[Subject]:
        """Every subject except QEMU and KVM, once."""
        rings = self.rings[:2]
        policies = [policy for policy in self.policies if policy != self.wait]
        return [
            *self.coalesced(),
            self.exit(),
            self.load(),
            HANDLER_ALONE,
            Subject("direct"),
            *(Subject(ring_pages=p, wait=policy) for policy in policies for p in rings),
            *(Subject(ring_pages=BURST_PAGES, wait=self.wait, burst=b) for b in self.bursts),
            *(Subject(ring_pages=p, wait=self.wait, pattern="filled") for p in rings),
            Subject("direct", pattern="filled"),
            *(
                Subject(ring_pages=p, wait=self.wait, pattern=MACHINE_CODE)
                for p in rings
                if not self.code_missing
            ),
        ]


def run(subject: Subject, writes: int) -> float:
    """Nanoseconds per write, or load, of one guest, from its first operation to the last one's end,
    and drained."""
    if subject.pattern == MACHINE_CODE:
        return machine_code.measure(_accelerator(subject))
    with Machine(_accelerator(subject), coalesce=subject.coalesce) as machine:
        pc.add_ram(machine)
        card = pc.add_vga(machine)
        if subject.pattern == LOADS:  # from a screen that is drawn: each finds other latches
            card.memory.words[:PLANAR_SIZE] = scattered(PLANAR_SIZE)
        arguments = {"writes": writes, "burst": subject.burst, "pattern": subject.pattern}
        if subject.accel == HANDLER:
            machine.run(GUEST, arguments | {"writes": 0})
            return _time_of_calls(card.window.read, writes)
        machine.run(GUEST, arguments)
        return machine.seconds / writes * 1e9


def _time_of_calls(read: ReadHandler, loads: int) -> float:
    """Nanoseconds per call."""
    offsets = (scattered(loads) >> 16).tolist()
    began = time.perf_counter_ns()
    for offset in offsets:
        read(offset, 1)
    return (time.perf_counter_ns() - began) / loads


def _accelerator(subject: Subject) -> Accelerator:
    if subject.accel in ("direct", HANDLER):
        return DirectAccelerator()
    policy = WaitPolicy.named(subject.wait)
    return ProcessAccelerator(GuestProcess(), subject.ring_pages, policy, host.placements()[0])


class QemuLoop:
    """The guest's loop in QEMU, with enough writes to take SAMPLE_SECONDS."""

    def __init__(self, qemu: Qemu, filled: bool) -> None:
        self._qemu = qemu
        self._filled = filled
        self._power = 0

    def measure(self) -> float:
        """Nanoseconds per write."""
        if self._power == 0:
            self._power = 10
            while self._power < 24:
                ns = self._qemu.measure(self._power, self._filled)
                if ns * (1 << self._power) >= SAMPLE_SECONDS * 1e9 / 2:
                    break
                self._power += 2
        return self._qemu.measure(self._power, self._filled)


class QemuLoops:
    """QEMU on those of the accelerators that this machine has."""

    def __init__(self, accelerators: Sequence[str], stack: ExitStack) -> None:
        self.subjects: dict[str, Callable[[], float]] = {}
        self.missing: dict[str, str] = {}  # why an accelerator is not measured
        for accelerator in accelerators:
            try:
                qemu = Qemu(accelerator)
            except Unusable as error:
                self.missing[accelerator] = str(error)
                continue
            stack.callback(qemu.close)
            for pattern in PATTERNS:
                loop = QemuLoop(qemu, pattern == "filled")
                self.subjects[qemu_name(accelerator, pattern)] = loop.measure


def qemu_name(accelerator: str, pattern: str) -> str:
    """The name of a figure in a table."""
    return f"QEMU on {accelerator.upper()}: {pattern}"


def plan(options: Options) -> Plan:
    """Guests that write to video memory, here and in QEMU."""
    sizes = QUICK if options.quick else FULL
    rings = (options.ring_pages,) if options.ring_pages else RINGS
    choice = Choice(rings, options.wait or "adaptive", options.on_kvm)
    choice = choice._replace(code_missing=machine_code.why_not())
    subjects = len(choice.subjects()) + len(choice.qemu) * len(PATTERNS)
    steps = rounds(sizes.repetitions) * subjects
    steps += kvm.steps(sizes.repetitions) * choice.on_kvm
    return Plan(steps, sizes.seconds, lambda step: measure(choice, sizes, step))


def measure(choice: Choice, sizes: Sizes, step: Step) -> report.Section:
    """Measure everything in one run. Raises KvmUnusable."""
    with ExitStack() as stack:
        loops = QemuLoops(choice.qemu, stack)
        subjects = dict(_subjects(choice, sizes)) | loops.subjects
        taken = interleaved(subjects, sizes.repetitions, step)
        if choice.on_kvm and not stopped():
            on_kvm = kvm.measure(sizes.on_kvm, sizes.exits, sizes.repetitions, step)
            taken = Taken(taken | on_kvm)
    return section(choice, taken, loops.missing)


def _subjects(choice: Choice, sizes: Sizes) -> Iterator[tuple[str, Callable[[], float]]]:
    important = {Subject("direct"), *choice.coalesced()[:2]}
    for subject in choice.subjects():
        writes = sizes.writes if subject in important else sizes.shorter
        yield str(subject), partial(run, subject, sizes.exits if not subject.coalesce else writes)


@dataclass(frozen=True)
class RingCost:
    """Nanoseconds per write with a ring of this size."""

    ring_pages: int
    coalesced_ns_per_write: Spread


@dataclass(frozen=True)
class Cell(Subject):
    """A subject and its nanoseconds per write."""

    ns_per_write: Spread = NOTHING


@dataclass(frozen=True)
class VgaFigures(RingCost):
    """Nanoseconds per write, first with the first size of the ring; and per load."""

    exit_ns_per_write: Spread
    direct_ns_per_write: Spread
    load_ns: Spread
    load_handler_ns: Spread
    wait: str
    rings: Sequence[RingCost]
    qemu: Mapping[str, Spread]
    qemu_missing: Mapping[str, str]
    matrix: Sequence[Cell]
    spread: Mapping[str, object]  # least and greatest
    kvm: kvm.KvmFigures | None = field(default=None, metadata=OPTIONAL)


def section(choice: Choice, taken: Taken, missing: Mapping[str, str]) -> report.Section:
    """Nanoseconds per write; `missing`: why an accelerator of QEMU was not measured."""
    names = {
        f"{accelerator}_{pattern}_ns_per_write": qemu_name(accelerator, pattern)
        for accelerator in ACCELERATORS
        for pattern in PATTERNS
    }
    in_qemu = {key: taken[name] for key, name in names.items() if name in taken}
    on_kvm = all(name in taken for name in kvm.NAMES)
    rows = [report.Row(str(s), taken[str(s)]) for s in choice.subjects()]
    rows += [report.Row(name, taken[name]) for name in names.values() if name in taken]
    rows += kvm.rows(taken) if on_kvm else []
    title = "A planar VGA write, end to end"
    absent = {f"QEMU on {accelerator.upper()}": why for accelerator, why in missing.items()}
    if choice.code_missing:
        absent[MACHINE_CODE] = choice.code_missing
    figures = _figures(choice, taken, in_qemu, missing)
    if on_kvm:
        figures = replace(figures, kvm=kvm.figures(taken))
    charts = (_chart(choice, taken),)
    return report.Section("vga", figures, title, "ns", rows, charts=charts, missing=absent)


def _figures(
    choice: Choice, taken: Taken, in_qemu: Mapping[str, Spread], missing: Mapping[str, str]
) -> VgaFigures:
    rings = [RingCost(s.ring_pages, taken[str(s)]) for s in choice.coalesced()]
    exits, direct = taken[str(choice.exit())], taken[str(Subject("direct"))]
    load, handler = taken[str(choice.load())], taken[str(HANDLER_ALONE)]
    named = {"exit_ns_per_write": exits, "direct_ns_per_write": direct, **in_qemu}
    named |= {"load_ns": load, "load_handler_ns": handler}
    by_ring = {str(ring.ring_pages): ring.coalesced_ns_per_write for ring in rings}
    return VgaFigures(
        *(rings[0].ring_pages, rings[0].coalesced_ns_per_write),
        exit_ns_per_write=exits,
        direct_ns_per_write=direct,
        load_ns=load,
        load_handler_ns=handler,
        wait=choice.wait,
        rings=sorted(rings, key=lambda ring: ring.ring_pages),
        qemu=in_qemu,
        qemu_missing=missing,
        matrix=[
            Cell(**vars(s), ns_per_write=taken[str(s)])
            for s in choice.subjects()
            if s.pattern != LOADS
        ],
        spread={"coalesced_ns_per_write": report.ends(by_ring), **report.ends(named)},
    )


def _chart(choice: Choice, taken: Taken) -> report.Chart:
    """Cost over ring pages; subjects without a ring as level lines."""
    rings = sorted((float(s.ring_pages), taken[str(s)].median) for s in choice.coalesced())
    ends = (rings[0][0], rings[-1][0])
    level = {
        "every write exits": taken[str(choice.exit())],
        "direct, one process": taken[str(Subject("direct"))],
        **{
            f"QEMU on {accelerator.upper()}, filled": taken[qemu_name(accelerator, "filled")]
            for accelerator in ACCELERATORS
        },
    }
    lines: list[report.Line] = [(f"coalesced, --wait {choice.wait}", rings)]
    for name, figure in level.items():
        if math.isfinite(figure.median):
            lines.append((name, [(end, figure.median) for end in ends]))
    return report.Chart("A planar VGA write", "ring, pages", "ns per write", tuple(lines))
