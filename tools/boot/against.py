"""The same image in two worlds: exits by reason and place side by side, and in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Final

from coalesced.tools.boot.exits import Log, Seen

BY_TIME: Final = "depends on time"
STOPPED: Final = "the runs were stopped by time"
_PM_TIMERS: Final = (range(0x600, 0x640), range(0xB000, 0xB040))
_BY_TIME: Final = frozenset(
    {
        *(0x20, 0xA0),  # ends of interrupts
        *range(0x40, 0x44),  # the timer itself
        *(0x60, 0x64),  # waiting for the keyboard controller
        0x61,  # waiting for the timer
        *(0x70, 0x71),  # waiting for the clock's update; NMIs off around each interrupt
        0x92,  # A20 around each interrupt that SeaBIOS handles in 32 bits
        *(0x3BA, 0x3DA),  # waiting for the retrace
        *(port for ports in _PM_TIMERS for port in ports),  # where firmware puts ACPI's timer
    }
)
"""Ports whose accesses depend on how long something lasts, or on the interrupts that come."""

_BEFORE, _BEHIND = 2, 3  # exits that are shown around a difference

Causes = Mapping[str, str]
"""By the beginning of a place: why its counts may differ."""


@dataclass(frozen=True)
class Row:
    """Exits of one reason at one place, in each world; `cause`: why the counts may differ."""

    reason: str
    place: str
    exits: Sequence[int]
    cause: str

    @property
    def equal(self) -> bool:
        """Whether all worlds have the same count."""
        return len(set(self.exits)) == 1


@dataclass(frozen=True)
class Difference:
    """The first exit that differs, among those that have no cause to; and those around it."""

    number: int  # from 1
    exits: Sequence[Sequence[str]]  # of each world
    at: int  # the index in `exits` of the one that differs


@dataclass(frozen=True)
class Against:
    """The worlds by name, a row for each reason and place, and the first difference in order.

    `full_rings`: of each world, how many entries a full ring held, and how often.
    """

    worlds: Sequence[str]
    rows: Sequence[Row]
    full_rings: Sequence[Mapping[int, int]]
    first_difference: Difference | None
    ok: bool  # no row differs without a cause


def against(
    worlds: Sequence[str], logs: Sequence[Log], causes: Causes, stopped: bool = False
) -> Against:
    """Compare the worlds' exits; rows with the most frequent first.

    `stopped`: time ended a run, so that one world may lack the last exits of another one.
    """
    found = rows([log.counts for log in logs], causes)
    if stopped:
        found = [replace(row, cause=row.cause or STOPPED) for row in found]
    return Against(
        worlds,
        found,
        [dict(log.full_rings) for log in logs],
        _first_difference([_without(log, causes) for log in logs], stopped),
        all(row.equal or row.cause for row in found),
    )


def rows(counts: Sequence[Counter[tuple[str, str]]], causes: Causes) -> list[Row]:
    """A row for each reason and place with an exit, the most frequent first."""
    keys = {key for each in counts for key in each}
    found = [
        Row(reason, place, [each[reason, place] for each in counts], cause_of(place, causes))
        for reason, place in keys
    ]
    return sorted(found, key=lambda row: (-max(row.exits), row.reason, row.place))


def decided_by_time(place: str) -> bool:
    """Whether the accesses to a place, empty for a halt, depend on time."""
    kind, _, port = place.partition(" ")
    return not place or (kind == "port" and int(port.split()[0], 16) in _BY_TIME)


def cause_of(place: str, causes: Causes) -> str:
    """The reason why the counts of a place may differ; empty if they may not."""
    if decided_by_time(place):
        return BY_TIME
    return next((text for key, text in causes.items() if f"{place} ".startswith(f"{key} ")), "")


def _without(log: Log, causes: Causes) -> list[Seen]:
    """The exits that have no cause to differ."""
    known: dict[str, str] = {}
    found = []
    for each in log.order:
        if each.place not in known:
            known[each.place] = cause_of(each.place, causes)
        if not known[each.place]:
            found.append(each)
    return found


def _first_difference(orders: Sequence[Sequence[Seen]], stopped: bool) -> Difference | None:
    compared = min(map(len, orders)) if stopped else None
    for index, exits in enumerate(islice(zip_longest(*orders), compared)):
        if len({each and each[:2] for each in exits}) > 1:
            start = max(index - _BEFORE, 0)
            shown = [[_shown(e) for e in order[start : index + _BEHIND]] for order in orders]
            return Difference(index + 1, shown, index - start)
    return None


def _shown(exit_: Seen) -> str:
    value = "" if exit_.value is None else f" <- {exit_.value:#x}"
    return f"{exit_.reason} {exit_.place}{value}"
