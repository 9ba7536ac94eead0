"""`coalesced info`: what this machine offers."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import typer

from coalesced.hv import abi, kvm
from coalesced.hv.errors import KvmUnusable
from coalesced.hv.ring import usable
from coalesced.hv.shm import DIRECTORY
from coalesced.tools.commands.options import JsonOption
from coalesced.tools.runs import report


def info(json: JsonOption = False) -> None:
    """Show CPUs, page size, ring capacity, shared memory, and /dev/kvm with its capabilities."""
    facts: dict[str, object] = {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "ring_entries": {str(pages): usable(pages) for pages in (1, 2, 4, 8, 16)},
        **_shared_memory(),
        "kvm": _kvm(),
    }
    if json:
        report.print_json(facts)
        return
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="This machine", title_justify="left", show_header=False)
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), _shown(name, value))
    report.print_table(table)


def _shown(name: str, value: object) -> str:
    """A fact for people."""
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    if name == "page_size":
        return f"{value} bytes"
    if name == "shared_memory_free" and isinstance(value, int):
        return size(value)
    return str(value)


def size(count: int) -> str:
    """Bytes in the largest binary unit that leaves a number of 1 or more."""
    number, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:,.0f} {units[0]}" if units[0] == "bytes" else f"{number:,.1f} {units[0]}"


def _shared_memory() -> dict[str, object]:
    """How much POSIX shared memory is free, or why there is none."""
    try:
        shm = os.statvfs(DIRECTORY)
    except OSError as error:
        reason = f"none: {DIRECTORY}: {error.strerror}; --accel process cannot run without it"
        return {"shared_memory_free": None, "shared_memory": reason}
    return {"shared_memory_free": shm.f_bavail * shm.f_frsize}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []  # /proc is not mounted
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _kvm() -> dict[str, object]:
    """What /dev/kvm offers, or why --accel kvm cannot use it."""
    try:
        found = kvm.capabilities()
    except KvmUnusable as error:
        return {"usable": False, "reason": str(error)}
    return {
        "usable": True,
        "api_version": abi.KVM_API_VERSION,
        "coalesced_mmio": found.coalesced_mmio,
        "coalesced_pio": int(found.coalesced_pio),
    }


def register(app: typer.Typer) -> None:
    """Add `info` to the program."""
    app.command("info", epilog="Example: coalesced info --json")(info)
