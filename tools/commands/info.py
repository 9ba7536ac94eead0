"""`coalesced info`: what this machine offers."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from coalesced.tools.commands.options import JsonOption
from coalesced.tools.runs import report
from coalesced.tools.runs.facts import Facts
from coalesced.tools.runs.json_members import members


def info(json: JsonOption = False) -> None:
    """Show CPUs, page size, ring capacity, shared memory, and /dev/kvm with its capabilities."""
    facts = Facts.of_this_machine()
    if json:
        report.print_json(facts)
        return
    all_ = members(facts)
    shown = {
        **all_,
        "page_size": f"{facts.page_size} bytes",
        "ring_entries": _pairs(facts.ring_entries),
        "shared_memory_free": size(facts.shared_memory_free),
        "kvm": _pairs(members(facts.kvm)),
    }
    rows = {name.replace("_", " "): str(shown[name]) for name in all_ if shown[name] is not None}
    report.print_rows("This machine", rows)


def _pairs(members: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in members.items())


def size(count: int | None) -> str | None:
    """Bytes in the largest binary unit that leaves a number of 1 or more."""
    if count is None:
        return None
    number, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:,.0f} {units[0]}" if units[0] == "bytes" else f"{number:,.1f} {units[0]}"


def register(app: typer.Typer) -> None:
    """Add `info` to the program."""
    app.command("info", epilog="Example: coalesced info --json")(info)
