"""Runs a guest once on a machine and measures the run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Generic, TypeVar

import psutil

from coalesced.hv import guest
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import KvmUnusable
from coalesced.hv.kvm import capabilities, check_several
from coalesced.hv.printable import printable_stream
from coalesced.hv.ring import Consumer
from coalesced.tools import early
from coalesced.tools.errors import BadInput, Interrupted, warn
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.proc import check_proc
from coalesced.tools.runs.recorded import check_loads, recorder
from coalesced.tools.runs.results import (
    Hot,
    Percentiles,
    Place,
    Ring,
    Run,
    Sides,
    SleptOn,
    Unanswered,
    Waits,
)
from coalesced.tools.runs.story import Story
from coalesced.vmm import absent
from coalesced.vmm.accel import direct
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.kvm import KvmAccelerator, Recorder
from coalesced.vmm.accel.kvm_code import KvmProcessor
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.counters import EXIT_REASONS, Counters
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import Sink

BoardT = TypeVar("BoardT")
SeenT = TypeVar("SeenT")

HOTTEST = 10


@dataclass(frozen=True)
class Job(Generic[BoardT, SeenT]):
    """A guest, how its machine is built, and how it is inspected after the guest has halted."""

    guest: str
    arguments: Mapping[str, object]
    build: Callable[[Machine], BoardT]
    inspect: Callable[[Machine, BoardT], SeenT]
    write_rom: Callable[[Machine, BoardT], None] = lambda _machine, _board: None
    record: Recorder | None = None  # set where the guest's accesses are known beforehand
    machine_code: bool = False  # the guest is `hv.cpu.guest`, or on KVM what RAM and ROM hold
    interrupted: Callable[[Machine], None] = lambda _machine: None  # after Ctrl-C, RAM still there


@dataclass(frozen=True)
class Ran(Generic[SeenT]):
    """One run, the addresses that exited most often (ten at most), and what `inspect` saw."""

    run: Run
    hottest: list[Hot]
    seen: SeenT


@dataclass(frozen=True)
class Usage:
    """The resources that a process has used so far."""

    cpu_seconds: float = 0.0
    context_switches: int = 0
    rss_bytes: int = 0

    @classmethod
    def of(cls, pid: int | None) -> Usage:
        """Of a process; all zero without one."""
        if pid is None:
            return cls()
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            switches = process.num_ctx_switches()
            return cls(
                times.user + times.system,
                switches.voluntary + switches.involuntary,
                process.memory_info().rss,
            )

    @classmethod
    def of_both(cls, machine: Machine) -> Sides[Usage]:
        """Of the guest process and of this one."""
        return Sides(cls.of(machine.accel.pid), cls.of(os.getpid()))


def check_kvm(vcpus: int = 1) -> None:
    """Raise BadInput unless this machine's KVM can run a guest on `vcpus` vCPUs."""
    try:
        capabilities()
        check_several(vcpus)
    except KvmUnusable as error:
        raise BadInput(f"--accel kvm: {error}") from error


def accelerator(options: RunOptions, record: Recorder, machine_code: bool) -> Accelerator:
    """The accelerator of the options; starts the guest process. Raises BadInput without KVM."""
    if options.accel == "direct":
        return DirectAccelerator()
    if options.accel == "kvm":
        check_kvm(options.vcpus)
        return KvmProcessor() if machine_code else KvmAccelerator(record, vcpus=options.vcpus)
    policy = WaitPolicy.named(options.wait)
    return ProcessAccelerator(early.take(), options.ring_pages, policy, options.cpus, options.vcpus)


def run_job(job: Job[BoardT, SeenT], options: RunOptions, trace: Sink | None = None) -> Ran[SeenT]:
    """Run the guest once.

    Raises what `Machine.run` raises, BadInput without the accelerator.
    """
    check_proc()
    record = job.record or recorder(job, options.vcpus)
    story_to = sys.stderr if options.explain and options.explain.aside else sys.stdout
    with (
        # A user's device prints to stderr, as a guest does.
        contextlib.redirect_stdout(printable_stream(sys.stderr)),
        Machine(
            accelerator(options, record, job.machine_code),
            coalesce=options.coalesce,
            zones=options.zones,
            rings=options.rings,
            staleness=options.staleness,
            trace=trace,
            warn=warn,
        ) as machine,
    ):
        try:
            board = job.build(machine)
            if options.explain is not None:
                machine.observe(Story(machine, story_to, options.explain.limit))
            job.write_rom(machine, board)
            before = Usage.of_both(machine)
            machine.run(job.guest, job.arguments)
        except KeyboardInterrupt as error:
            job.interrupted(machine)
            raise Interrupted(_how_far(machine, error)) from error
        run = _describe(machine, options.coalesce, before, Usage.of_both(machine))
        return Ran(run, _hottest(machine.counters), job.inspect(machine, board))


def _how_far(machine: Machine, error: KeyboardInterrupt) -> str:
    """One line about a run that Ctrl-C ended."""
    counters, accel = machine.counters, machine.accel
    counts = (
        f"{counters.writes:,} device writes, {counters.coalesced:,} of them queued, "
        f"{counters.exits:,} exits"
    )
    if isinstance(accel, ProcessAccelerator):
        place = accel.where()
    else:
        stack = traceback.extract_tb(error.__traceback__)
        calls = [i for i, f in enumerate(stack) if f.filename == direct.__file__]
        place = guest.place(stack[calls[0] + 1 :]) if calls else ""
    return f"{counts}; the guest was at {place}" if place else counts


def _describe(machine: Machine, coalesce: bool, before: Sides[Usage], after: Sides[Usage]) -> Run:
    counters, accel = machine.counters, machine.accel
    unassigned = [space.unassigned_accesses for space in (machine.memory, machine.ports)]
    hv, vmm = (before.hv, after.hv), (before.vmm, after.vmm)
    return Run(
        coalescing=coalesce and accel.name != "direct",
        accel=accel.name,
        writes=counters.writes,
        coalesced=counters.coalesced,
        exits=counters.exits,
        exits_by={reason: counters.exits_by[reason] for reason in EXIT_REASONS},
        stale_drains=counters.stale_drains,
        waits=_waits(machine),
        signals=accel.signals(),
        seconds=machine.seconds,
        ns_per_write=machine.seconds / counters.writes * 1e9 if counters.writes else None,
        cpu_seconds=Sides(*(round(b.cpu_seconds - a.cpu_seconds, 3) for a, b in (hv, vmm))),
        context_switches=Sides(*(b.context_switches - a.context_switches for a, b in (hv, vmm))),
        rss_bytes=Sides(after.hv.rss_bytes, after.vmm.rss_bytes),
        state=machine.state(),
        failed_writes=counters.failed_writes,
        failures=list(counters.failures),
        unassigned=sum(tally.total for tally in unassigned),
        unassigned_addresses=sum(map(len, unassigned)),
        unanswered=_unanswered(machine),
        rings=[
            Ring(each.name, each.coalesced, each.drains, each.wakeups, _percentiles(each.ring))
            for each in machine.queues
        ],
        netdevs=machine.network.report(),
        start_seconds=start_seconds(accel.first_operation()),
        loads=check_loads(machine, accel) if isinstance(accel, KvmAccelerator) else None,
    )


def _unanswered(machine: Machine) -> list[Unanswered]:
    """The addresses that no device answers, the most frequent first."""
    found = [
        Unanswered(address, _kind(port), accesses, absent.device_at(address) if port else None)
        for port, space in ((False, machine.memory), (True, machine.ports))
        for address, accesses in space.unassigned_accesses.items()
    ]
    return sorted(found, key=lambda each: -each.accesses)[:HOTTEST]


def _percentiles(ring: Consumer) -> Percentiles:
    """Waits of the writes in a ring."""
    known = ring.core.waits()
    return Percentiles() if known is None else Percentiles(*(ns / 1e3 for ns in known[:3]))


def _waits(machine: Machine) -> Waits:
    """The waits of queued writes in the VM's ring, and the longest of all rings."""
    ring = machine.accel.ring
    found = [known for queue in machine.queues if (known := queue.ring.core.waits()) is not None]
    if ring is None or not found:
        return Waits()
    _, _, _, address, port, _ = max(found, key=itemgetter(2))
    ranges = chain.from_iterable(known[5] for known in found)
    slept_on = []
    for first, last, is_port, writes, ns in sorted(ranges, key=itemgetter(4), reverse=True):
        region = (machine.ports if is_port else machine.memory).region_at(first)
        name = None if region is None else region.name
        slept_on.append(SleptOn(first, last - first + 1, _kind(is_port), name, writes, ns / 1e3))
    return Waits(_percentiles(ring), Place(address, _kind(port)), slept_on)


def _kind(port: bool) -> str:
    return "pio" if port else "mmio"


def start_seconds(first_operation: int) -> float | None:
    """Seconds from the exec of this program to the guest's first operation, to 10 ms.

    `first_operation`: CLOCK_MONOTONIC nanoseconds, 0 for none (then None). Only a program's first
    run shows what starting it costs.
    """
    if not first_operation:
        return None
    stat = Path("/proc/self/stat").read_text()
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return since - (time.monotonic_ns() - first_operation) / 1e9


def _hottest(counters: Counters) -> list[Hot]:
    return [
        Hot(address, _kind(port), exits)
        for (address, port), exits in counters.hottest.most_common(HOTTEST)
    ]
