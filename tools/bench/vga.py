"""What a planar VGA write costs end to end, from the guest's store to video memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host, kvm, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.progress import stopped
from coalesced.tools.bench.qemu import ACCELERATORS, Qemu, Unusable
from coalesced.tools.bench.registry import Options, Plan
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

GUEST = "coalesced.tools.guests.bench:vga"
RINGS = (1, 16, 2, 4, 64)  # pages; the first is the one that everything else is held against
POLICIES = ("adaptive", "block", "poll")
BURSTS = (16, 64, 256, 1024)  # writes between two loads
BURST_PAGES = 16
PATTERNS = ("scattered", "filled")
SAMPLE_SECONDS = 0.05  # of QEMU's loop; its two ends are seen some 10 us late each


class Sizes(NamedTuple):
    """How much a measurement is; writes per repetition."""

    repetitions: int
    writes: int  # of the figures that others are held against
    shorter: int  # of the rest
    exits: int  # of the guest whose every write exits
    on_kvm: int  # where a guest's own instructions may be emulated
    seconds: float


FULL = Sizes(
    repetitions=6, writes=1 << 20, shorter=1 << 18, exits=30_000, on_kvm=1 << 17, seconds=80
)
QUICK = Sizes(
    repetitions=2, writes=1 << 17, shorter=1 << 15, exits=3_000, on_kvm=1 << 14, seconds=30
)


class Subject(NamedTuple):
    """One way of a write to video memory."""

    accel: str = "process"
    ring_pages: int = 1
    wait: str = "adaptive"
    coalesce: bool = True
    burst: int = 0  # writes between two loads, 0: no loads
    pattern: str = "scattered"

    def __str__(self) -> str:
        what = f"{self.burst:,} writes and a load" if self.burst else self.pattern
        if self.accel == "direct":
            return f"direct, one process: {what}"
        way = f"ring of {report.plural(self.ring_pages, 'page')}"
        if not self.coalesce:
            way = "every write exits"
        return f"{way}, --wait {self.wait}: {what}"


class Choice(NamedTuple):
    """What the command line chose."""

    rings: tuple[int, ...]
    wait: str
    on_kvm: bool = False

    def coalesced(self) -> list[Subject]:
        """By size of the ring; the first is what everything else is held against."""
        return [Subject(ring_pages=pages, wait=self.wait) for pages in self.rings]

    def exit(self) -> Subject:
        """Coalescing off."""
        return Subject(wait=self.wait, coalesce=False)

    def subjects(self) -> list[Subject]:
        """Everything but QEMU, each once."""
        rings = self.rings[:2]
        policies = [policy for policy in POLICIES if policy != self.wait]
        return [
            *self.coalesced(),
            self.exit(),
            Subject("direct"),
            *(Subject(ring_pages=p, wait=policy) for policy in policies for p in rings),
            *(Subject(ring_pages=BURST_PAGES, wait=self.wait, burst=b) for b in BURSTS),
            *(Subject(ring_pages=p, wait=self.wait, pattern="filled") for p in rings),
            Subject("direct", pattern="filled"),
        ]


def run(subject: Subject, writes: int) -> float:
    """Nanoseconds per write of one guest, from its first operation to the last drained write."""
    with Machine(_accelerator(subject), coalesce=subject.coalesce) as machine:
        pc.add_ram(machine)
        pc.add_vga(machine)
        arguments = {"writes": writes, "burst": subject.burst, "pattern": subject.pattern}
        machine.run(GUEST, arguments)
        return machine.seconds / writes * 1e9


def _accelerator(subject: Subject) -> Accelerator:
    if subject.accel == "direct":
        return DirectAccelerator()
    policy = WaitPolicy.named(subject.wait)
    return ProcessAccelerator(GuestProcess(), subject.ring_pages, policy, host.placements()[0])


class QemuLoop:
    """The guest's loop in QEMU, as many writes as take SAMPLE_SECONDS."""

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
    """QEMU's accelerators that this machine has, and why it lacks the others."""

    def __init__(self, stack: ExitStack) -> None:
        self.subjects: dict[str, Callable[[], float]] = {}
        self.missing: dict[str, str] = {}
        for accelerator in ACCELERATORS:
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
    """Ways to video memory beside each other."""
    sizes = QUICK if options.quick else FULL
    rings = (options.ring_pages,) if options.ring_pages else RINGS
    choice = Choice(rings, options.wait or "adaptive", options.on_kvm)
    subjects = len(choice.subjects()) + len(ACCELERATORS) * len(PATTERNS)
    steps = rounds(sizes.repetitions) * subjects
    steps += kvm.steps(sizes.repetitions) * choice.on_kvm
    return Plan(steps, sizes.seconds, lambda step: measure(choice, sizes, step))


def measure(choice: Choice, sizes: Sizes, step: Step) -> report.Section:
    """Measure everything in one run. Raises KvmUnusable."""
    with ExitStack() as stack:
        loops = QemuLoops(stack)
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


def section(choice: Choice, taken: Taken, missing: dict[str, str]) -> report.Section:
    """Nanoseconds per write; the first size of the ring at the top, every size in `rings`."""
    coalesced = choice.coalesced()
    rings = [
        {"ring_pages": s.ring_pages, "coalesced_ns_per_write": _median(taken[str(s)])}
        for s in coalesced
    ]
    figures = {
        "exit_ns_per_write": taken[str(choice.exit())],
        "direct_ns_per_write": taken[str(Subject("direct"))],
    }
    names = {
        f"{accelerator}_{pattern}_ns_per_write": qemu_name(accelerator, pattern)
        for accelerator in ACCELERATORS
        for pattern in PATTERNS
    }
    in_qemu = {key: taken[name] for key, name in names.items() if name in taken}
    values: dict[str, object] = {
        **rings[0],
        **report.medians(figures),
        "wait": choice.wait,
        "rings": sorted(rings, key=lambda ring: ring["ring_pages"] or 0),
        "qemu": report.medians(in_qemu),
        "qemu_missing": missing,
        "matrix": [
            {**s._asdict(), "ns_per_write": _median(taken[str(s)])} for s in choice.subjects()
        ],
        "spread": {
            "coalesced_ns_per_write": report.spreads(
                {str(s.ring_pages): taken[str(s)] for s in coalesced}
            ),
            **report.spreads(figures | in_qemu),
        },
    }
    rows: list[report.Row] = [(str(s), taken[str(s)], "") for s in choice.subjects()]
    rows += [(name, taken[name], "") for name in names.values() if name in taken]
    if all(name in taken for name in kvm.NAMES):
        values["kvm"] = kvm.values(taken)
        rows += kvm.rows(taken)
    title = "A planar VGA write, end to end"
    absent = {f"QEMU on {accelerator.upper()}": why for accelerator, why in missing.items()}
    charts = (_chart(choice, taken),)
    return report.Section("vga", values, title, "ns", rows, charts=charts, missing=absent)


def _chart(choice: Choice, taken: Taken) -> report.Chart:
    """Cost against ring pages, with what has no ring as level lines."""
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


def _median(figure: Spread) -> float | None:
    return report.rounded(figure.median)
