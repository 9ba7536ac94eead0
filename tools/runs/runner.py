"""Running a guest once on a machine, and what that took."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import psutil

from coalesced.hv import guest
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import HostError, KvmUnusable
from coalesced.hv.kvm import capabilities
from coalesced.hv.printable import printable_stream
from coalesced.tools import early
from coalesced.tools.commands.options import RunOptions
from coalesced.tools.errors import BadInput, Interrupted, warn
from coalesced.tools.runs.recorded import check_loads, recorder
from coalesced.vmm.accel import direct
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.kvm import KvmAccelerator, Recorder
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.counters import EXIT_REASONS, Counters
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import Sink

BoardT = TypeVar("BoardT")
SeenT = TypeVar("SeenT")

HOTTEST = 10


@dataclass(frozen=True)
class Job(Generic[BoardT, SeenT]):
    """A guest, the machine it needs, and what to look at when it has halted."""

    guest: str
    arguments: Mapping[str, object]
    build: Callable[[Machine], BoardT]
    inspect: Callable[[Machine, BoardT], SeenT]
    write_rom: Callable[[Machine, BoardT], None] = lambda _machine, _board: None
    record: Recorder | None = None  # what the guest does, where that is known beforehand


@dataclass(frozen=True)
class Usage:
    """What a process used up to a moment."""

    cpu_seconds: float
    context_switches: int
    rss_bytes: int

    @classmethod
    def of(cls, pid: int | None) -> Usage:
        """Of a process, all zero without one."""
        if pid is None:
            return cls(0.0, 0, 0)
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            switches = process.num_ctx_switches()
            return cls(
                times.user + times.system,
                switches.voluntary + switches.involuntary,
                process.memory_info().rss,
            )


def check_kvm() -> None:
    """Raise BadInput unless this machine's KVM can run a guest."""
    try:
        capabilities()
    except KvmUnusable as error:
        raise BadInput(f"--accel kvm: {error}") from error


def _check_proc() -> None:
    """Raise HostError without the file system that tells what processes use."""
    if not Path("/proc/self/stat").exists():
        raise HostError("/proc: expected the proc file system there: mount -t proc proc /proc")


def accelerator(options: RunOptions, name: str, record: Recorder) -> Accelerator:
    """The accelerator of that name; starts the guest process. Raises BadInput without KVM."""
    if name == "direct":
        return DirectAccelerator()
    if name == "kvm":
        check_kvm()
        return KvmAccelerator(record)
    return ProcessAccelerator(
        early.take(), options.ring_pages, WaitPolicy.named(options.wait), options.cpus
    )


def run_job(
    job: Job[BoardT, SeenT],
    options: RunOptions,
    accel_name: str,
    coalesce: bool,
    trace: Sink | None = None,
) -> tuple[dict[str, object], Counters, SeenT]:
    """Run the guest once: the run's entry of the JSON object, its counters, what was seen.

    Raises what `Machine.run` raises, BadInput without the accelerator.
    """
    _check_proc()
    record = job.record or recorder(job)
    with (
        # What a user's device prints goes where a guest's does.
        contextlib.redirect_stdout(printable_stream(sys.stderr)),
        Machine(
            accelerator(options, accel_name, record),
            coalesce=coalesce,
            staleness=options.staleness,
            trace=trace,
            warn=warn,
        ) as machine,
    ):
        accel = machine.accel
        try:
            board = job.build(machine)
            job.write_rom(machine, board)
            before = Usage.of(accel.pid), Usage.of(os.getpid())
            machine.run(job.guest, job.arguments)
        except KeyboardInterrupt as error:
            raise Interrupted(_how_far(machine, error)) from error
        after = Usage.of(accel.pid), Usage.of(os.getpid())
        run = _describe(machine, coalesce and accel_name != "direct", before, after)
        return run, machine.counters, job.inspect(machine, board)


def _how_far(machine: Machine, error: KeyboardInterrupt) -> str:
    """One line about a run that Ctrl-C ended."""
    counters, accel = machine.counters, machine.accel
    told = (
        f"{counters.writes:,} device writes, {counters.coalesced:,} of them queued, "
        f"{counters.exits:,} exits"
    )
    if isinstance(accel, ProcessAccelerator):
        place = accel.where()
    else:
        stack = traceback.extract_tb(error.__traceback__)
        calls = [i for i, f in enumerate(stack) if f.filename == direct.__file__]
        place = guest.place(stack[calls[0] + 1 :]) if calls else ""
    return f"{told}; the guest was at {place}" if place else told


def _describe(
    machine: Machine,
    coalescing: bool,
    before: tuple[Usage, Usage],
    after: tuple[Usage, Usage],
) -> dict[str, object]:
    counters, accel = machine.counters, machine.accel
    sides = ("hv", "vmm")
    return {
        "coalescing": coalescing,
        "accel": machine.accel.name,
        "writes": counters.writes,
        "coalesced": counters.coalesced,
        "exits": counters.exits,
        "exits_by": {reason: counters.exits_by[reason] for reason in EXIT_REASONS},
        "stale_drains": counters.stale_drains,
        **waits(machine),
        "signals": machine.accel.signals(),
        "seconds": machine.seconds,
        "ns_per_write": machine.seconds / counters.writes * 1e9 if counters.writes else None,
        "cpu_seconds": {
            side: round(b.cpu_seconds - a.cpu_seconds, 3)
            for side, a, b in zip(sides, before, after, strict=True)
        },
        "context_switches": {
            side: b.context_switches - a.context_switches
            for side, a, b in zip(sides, before, after, strict=True)
        },
        "rss_bytes": {side: b.rss_bytes for side, b in zip(sides, after, strict=True)},
        "state": machine.state(),
        "failed_writes": counters.failed_writes,
        "failures": list(counters.failures),
        "unassigned": machine.memory.unassigned_accesses.total
        + machine.ports.unassigned_accesses.total,
        "netdevs": machine.network.report(),
        "start_seconds": start_seconds(machine.accel.first_operation()),
        **(check_loads(machine, accel) if isinstance(accel, KvmAccelerator) else {}),
    }


def waits(machine: Machine) -> dict[str, object]:
    """How long queued writes waited in the ring, in microseconds; None where nobody knows.

    `slept_on`: the ranges with writes that were queued while the guest slept, the longest first.
    """
    ring = machine.accel.ring
    known = ring.core.waits() if ring is not None else None
    if known is None:
        nothing = dict.fromkeys(("p50", "p99", "max"))
        return {"wait_us": nothing, "waited_longest": None, "slept_on": []}
    p50, p99, longest, address, port, ranges = known
    slept_on: list[dict[str, object]] = []
    for first, last, is_port, writes, ns in sorted(ranges, key=lambda found: -found[4]):
        region = (machine.ports if is_port else machine.memory).region_at(first)
        slept_on.append(
            {
                "address": first,
                "size": last - first + 1,
                "kind": "pio" if is_port else "mmio",
                "region": None if region is None else region.name,
                "writes": writes,
                "wait_us": ns / 1e3,
            }
        )
    return {
        "wait_us": {"p50": p50 / 1e3, "p99": p99 / 1e3, "max": longest / 1e3},
        "waited_longest": {"address": address, "kind": "pio" if port else "mmio"},
        "slept_on": slept_on,
    }


def start_seconds(first_operation: int) -> float | None:
    """From the exec of this program to the guest's first operation (CLOCK_MONOTONIC ns).

    To the clock tick, 10 ms; None without a first operation. Only the first run of a program
    tells the cost of starting it.
    """
    if not first_operation:
        return None

    stat = Path("/proc/self/stat").read_text()
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return since - (time.monotonic_ns() - first_operation) / 1e9


def hottest(counters: Counters) -> list[dict[str, object]]:
    """The addresses that exited most often, ten at most."""
    return [
        {"address": address, "kind": "pio" if port else "mmio", "exits": exits}
        for (address, port), exits in counters.hottest.most_common(HOTTEST)
    ]
