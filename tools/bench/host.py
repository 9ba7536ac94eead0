"""The machine that runs the benchmarks, and the placement of processes on its CPUs."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from coalesced.vmm.accel.process import put_back

CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Host:
    """The properties of a machine on which its figures depend."""

    cpu: str
    cpus: int  # available to this process
    cores: int
    kernel: str
    virtualised: bool
    governor: str
    python: str
    load: float  # average over a minute

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())


def describe() -> Host:
    """The machine that runs this process."""
    model, flags = _cpuinfo()
    available = sorted(os.sched_getaffinity(0))
    return Host(
        cpu=model,
        cpus=len(available),
        cores=len({_topology(cpu, "thread_siblings_list") or str(cpu) for cpu in available}),
        kernel=f"{platform.system()} {platform.release()}",
        virtualised="hypervisor" in flags,
        governor=_read(CPUS / f"cpu{available[0]}/cpufreq/scaling_governor") or "none",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
    )


def _topology(cpu: int, what: str) -> str:
    return _read(CPUS / f"cpu{cpu}/topology/{what}")


def _read(path: Path) -> str:
    """The text of a file in /sys; empty where this kernel has none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpuinfo() -> tuple[str, list[str]]:
    """The first CPU's model and flags; without them, what Python knows of the machine."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name", platform.machine()), fields.get("flags", "").split()


def placements() -> tuple[str, ...]:
    """The placements that this machine has CPUs for."""
    return ("split", "same") if len(os.sched_getaffinity(0)) > 1 else ("same",)


def cpus_of(placement: str) -> tuple[int, int]:
    """(this process's CPU, the other one's)."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[placement == "split"]


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Run this process on one CPU within the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        put_back({cpu}, before)


@contextmanager
def awake(pid: int, cpu: int | None = None) -> Iterator[None]:
    """Let a process that `park` stopped run within the block, on `cpu` if given."""
    if cpu is not None:
        os.sched_setaffinity(pid, {cpu})
    os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        park(pid)


def park(pid: int) -> None:
    """Stop a guest process: one that polls would disturb the next measurement."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
