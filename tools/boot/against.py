"""The same image in two worlds: exits by reason and place, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coalesced.vmm.machine import Machine

Exits = Mapping[tuple[str, str], int]
"""Counts by (reason, place)."""

_HALT: Final = "hlt"
_PM_TIMER: Final = range(0x600, 0x640)
_BY_TIME: Final = frozenset(
    {
        *(0x20, 0xA0),  # ends of interrupts
        *range(0x40, 0x44),  # the timer itself
        *(0x60, 0x64),  # waiting for the keyboard controller
        0x61,  # waiting for the timer
        *(0x70, 0x71),  # waiting for the clock's update; NMIs off around each interrupt
        0x92,  # A20 around each interrupt that SeaBIOS handles in 32 bits
        *(0x3BA, 0x3DA),  # waiting for the retrace
        *_PM_TIMER,  # where firmware puts ACPI's timer
    }
)
"""Ports whose accesses depend on how long something lasts, or on the interrupts that come."""


@dataclass(frozen=True)
class Row:
    """Exits of one reason at one place, in each world; `by_time`: they depend on time."""

    reason: str
    place: str
    exits: Sequence[int]
    by_time: bool

    @property
    def equal(self) -> bool:
        """Whether all worlds have the same count."""
        return len(set(self.exits)) == 1


@dataclass(frozen=True)
class Against:
    """The worlds by the names of their accelerators, and a row for each reason and place."""

    worlds: Sequence[str]
    rows: Sequence[Row]
    ok: bool  # only rows that depend on time differ


def exits_of(machine: Machine) -> Exits:
    """The exits of a machine: ports one by one, memory by region."""
    found: Counter[tuple[str, str]] = Counter({(_HALT, ""): machine.counters.halts})
    for (reason, port), at in machine.counters.exits_at.items():
        for address, count in at.items():
            found[reason, _place(machine, address, port)] += count
    return found


def _place(machine: Machine, address: int, port: bool) -> str:
    if port:
        return f"port {address:#x}"
    region = machine.memory.region_at(address)
    return f"{address:#x}" if region is None else region.name


def against(worlds: Sequence[str], exits: Sequence[Exits]) -> Against:
    """The worlds' exits, the most frequent first."""
    keys = {key for each in exits for key in each}
    rows = [
        Row(reason, place, [each.get((reason, place), 0) for each in exits], _by_time(place))
        for reason, place in keys
    ]
    rows.sort(key=lambda row: (-max(row.exits), row.reason, row.place))
    return Against(worlds, rows, all(row.equal or row.by_time for row in rows))


def _by_time(place: str) -> bool:
    kind, _, address = place.partition(" ")
    return not place or (kind == "port" and int(address, 16) in _BY_TIME)
