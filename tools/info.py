"""`coalesced info`: what this machine offers."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import typer

from hv import abi, kvm
from hv.errors import KvmUnusable
from hv.ring import usable
from tools import report
from tools.options import JsonOption


def info(json: JsonOption = False) -> None:
    """Show CPUs, page size, ring capacity, shared memory, and /dev/kvm with its capabilities."""
    shm = os.statvfs("/dev/shm")
    facts: dict[str, object] = {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "ring_entries": {str(pages): usable(pages) for pages in (1, 2, 4, 8, 16)},
        "shared_memory_free": shm.f_bavail * shm.f_frsize,
        "kvm": _kvm(),
    }
    if json:
        report.print_json(facts)
        return
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="This machine", title_justify="left", show_header=False)
    for name, value in facts.items():
        shown = (
            ", ".join(f"{k}: {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        table.add_row(name.replace("_", " "), shown)
    report.print_table(table)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
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
