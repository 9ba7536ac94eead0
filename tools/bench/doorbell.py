"""The cost of a doorbell: the same register as an exit, queued, posted and as an ioeventfd."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.region import Region
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.tools.bench import host, report
from coalesced.tools.bench.measure import (
    NOTHING,
    Step,
    interleaved,
    percentile,
    rounds,
    spread,
)
from coalesced.tools.bench.parked import Parked
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest

WAYS: Final = ("exit", "queued", "posted", "ioeventfd")
POLICIES: Final = ("block", "adaptive", "poll")
GAP_US: Final = 200  # the guest's pause between two writes
STALENESS: Final = 0.002  # seconds; without it a queued write would wait for the last exit
RAM_SIZE: Final = 1 << 20

Times = NDArray[np.int64]  # nanoseconds


@dataclass(frozen=True)
class Sizes:
    """The size of a measurement."""

    repetitions: int
    rings: int  # writes of the doorbell in a run


FULL: Final = Sizes(6, 500)
QUICK: Final = Sizes(2, 100)


@dataclass(frozen=True)
class DoorbellFigures:
    """One way under one wait policy; microseconds, but for `guest_ns`. None without a run."""

    latency_p50_us: float | None  # from before the guest's write until the device acts
    latency_p99_us: float | None
    guest_ns: float | None  # for which the guest's write keeps it, the median
    vmm_cpu_us: float | None  # CPU time of a write
    hv_cpu_us: float | None


class Bell(Parked):
    """A machine with one register, and a guest that writes to it now and then."""

    def __init__(self, way: str, policy: str, placement: str) -> None:
        super().__init__(1, WaitPolicy.named(policy), placement, staleness=STALENESS)
        self._acted: list[int] = []
        self.latency: list[Times] = []
        self.guest: list[Times] = []
        self.cpu: list[tuple[float, float]] = []  # of the VMM and the guest, us a write
        at = ((guest.BELL - guest.CONTROL, 8),)
        region = Region(
            "bench-doorbell",
            guest.REGISTERS_SIZE,
            self.read_control,
            self._ring,
            coalesced=at if way == "queued" else (),
            posted=at if way == "posted" else (),
        )
        with self.building("coalesced.tools.guests.bench:doorbells"):
            self.machine.add_ram(0, RAM_SIZE)
            self.machine.memory.map(region, guest.CONTROL)
            if way == "ioeventfd":
                self.machine.add_ioeventfd(Ioeventfd(guest.BELL, 8), self._signalled)

    def measure(self, rings: int, keep: bool = True) -> float:
        """Let the guest write `rings` times; the median microseconds until the device acts."""
        self.command = rings | GAP_US << 32
        self._acted.clear()
        with self.awake():
            cpu = time.process_time_ns()
            self.machine.resume()
            vmm_cpu = time.process_time_ns() - cpu
        raw = self.machine.ram[0].read(0, 8 + 16 * rings)
        hv_cpu = int(np.frombuffer(raw[:8], np.int64)[0])
        stamps = np.frombuffer(raw[8:], np.int64).reshape(2, rings)
        # Two signals of an ioeventfd that are taken at once are counted as two.
        latency = np.array(self._acted[:rings], np.int64) - stamps[0]
        if keep:
            self.latency.append(latency)
            self.guest.append(stamps[1] - stamps[0])
            self.cpu.append((vmm_cpu / rings / 1e3, hv_cpu / rings / 1e3))
        return float(np.median(latency)) / 1e3

    def _ring(self, _offset: int, _size: int, _value: int) -> None:
        self._acted.append(time.monotonic_ns())

    def _signalled(self, count: int) -> None:
        self._acted += [time.monotonic_ns()] * count

    def figures(self) -> DoorbellFigures:
        """The figures of the runs that were kept."""
        if not self.latency:
            return DoorbellFigures(None, None, None, None, None)
        latency = np.concatenate(self.latency)
        vmm_cpu, hv_cpu = (float(np.median(side)) for side in zip(*self.cpu, strict=True))
        return DoorbellFigures(
            percentile(latency, 50),
            percentile(latency, 99),
            float(np.median(np.concatenate(self.guest))),
            vmm_cpu,
            hv_cpu,
        )

    def row(self, what: str) -> report.Row:
        """Latency, and its cost."""
        figures = self.figures()
        if figures.guest_ns is None:
            return report.Row(what, NOTHING)
        p99, guest_ns = figures.latency_p99_us or 0, figures.guest_ns
        hv_cpu, vmm_cpu = figures.hv_cpu_us or 0, figures.vmm_cpu_us or 0
        remark = (
            f"p99 {report.text(p99)} us; the guest waits {report.text(guest_ns / 1e3)} us; "
            f"CPU time of a write: guest {report.text(hv_cpu)} us, VMM {report.text(vmm_cpu)} us"
        )
        return report.Row(what, spread(self._medians()), remark)

    def _medians(self) -> list[float]:
        return [float(np.median(each)) / 1e3 for each in self.latency]


def plan(options: Options) -> Plan:
    """Every way under every wait policy, or under one."""
    sizes = QUICK if options.quick else FULL
    policies = (options.wait,) if options.wait else POLICIES
    count = len(WAYS) * len(policies)
    seconds = count * rounds(sizes.repetitions) * sizes.rings * (GAP_US + 150) * 1e-6
    return Plan(
        count * rounds(sizes.repetitions), seconds, lambda step: measure(policies, sizes, step)
    )


def measure(policies: Sequence[str], sizes: Sizes, step: Step) -> report.Section:
    """Measure in turns, so that a disturbance meets all."""
    placement = host.placements()[0]
    bells: dict[tuple[str, str], Bell] = {}
    with ExitStack() as stack:
        for policy in policies:
            for way in WAYS:
                bell = stack.enter_context(closing(Bell(way, policy, placement)))
                bells[policy, way] = bell
                bell.measure(sizes.rings, keep=False)
        subjects = {
            " ".join(key): partial(bell.measure, sizes.rings) for key, bell in bells.items()
        }
        interleaved(subjects, sizes.repetitions, step)
        figures = {
            policy: {way: bells[policy, way].figures() for way in WAYS} for policy in policies
        }
        rows = [bell.row(f"{way}, --wait {policy}") for (policy, way), bell in bells.items()]
    title = f"From a guest's write of a doorbell until the device acts, CPUs {placement}"
    return report.Section("doorbell", figures, title, "us", rows)
