"""Measures, per range of registers, what its writes do: from the recording alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.i440fx import CONFIG_ADDRESS, CONFIG_DATA
from coalesced.tools.advise import pairs, passes
from coalesced.tools.advise.bins import Bins, Waits
from coalesced.tools.advise.pairs import REACH, Pair
from coalesced.tools.advise.ranges import ODD, ODD_LEAST, Range, without_odd
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.spool import array_of
from coalesced.vmm.zone import Zone

# Of PCI's configuration space: command, BARs, a bridge's windows, the ROM.
MAPPING_REGISTERS: Final = (0x04, *range(0x10, 0x34, 4))
_PCI: Final = (CONFIG_ADDRESS, CONFIG_DATA, sum(1 << (r // 4) for r in MAPPING_REGISTERS))

_COUNTS: Final = (
    "writes", "strings", "reads", "exits", "first_line", "name", "in_force", "exits_of_writes",
    "same_back", "in_range", "followed", "read", "polled", "continued", "several_values",
)  # fmt: skip
_COUNTED: Final = np.dtype([("count", "<i8"), ("line", "<i8")])
FOUND: Final = np.dtype(
    [
        *((name, "<i8") for name in _COUNTS),
        ("value", "<u8"),
        *(
            (name, _COUNTED)
            for name in ("other_back", "repeated", "counting", "window", "mapping", "beside")
        ),
        ("parts", "<i8", (passes.PARTS,)),
        ("near", "<i8", (2 * REACH + 1,)),
    ]
)
LONGEST: Final = np.dtype([("wait", "<i8"), ("line", "<i8")])


@dataclass(frozen=True)
class Counted:
    """The count of an observation, and the first line that shows it."""

    count: int
    line: int | None


@dataclass(frozen=True)
class Evidence:
    """The observed effects of a range's writes. Shares are of its single writes."""

    zone: Zone
    name: int  # of the region, in the recording
    is_window: bool  # it is taken for memory
    joined: int  # the ranges that this one stands for, where there are too many
    in_force: bool  # its writes are in a zone already
    writes: int
    strings: int
    reads: int
    exits: int
    first_line: int
    waits: Waits | None
    longest_line: int | None  # of the write that waited longest
    to_next: Waits | None  # to the next access of the same thread
    pair: Pair
    only_value: int | None  # of all writes
    same_back: int  # reads of the value that was written
    other_back: Counted
    repeated: Counted  # followed by a write of another value to the same address
    counting: Counted  # one small step above the last value written there
    in_range: int  # followed by a write to the same range
    before_window: Counted
    mapping: Counted
    no_successor: int  # the last of their thread
    never_exits: bool  # although the recording shows exits, and no zone explains it
    parts: Sequence[int]  # accesses by part of the recording
    wait_bins: Sequence[int]  # writes by the power of two of their wait


def measured(
    recording: Recording, ranges: list[Range], in_force: Sequence[Zone], staleness: int
) -> list[Evidence]:
    """The evidence about each range that is written once at least.

    `staleness`: the nanoseconds after which what follows a write is late.
    """
    of_ranges, odd = _passed(recording, ranges, in_force, staleness)
    cut = without_odd(ranges, odd)
    if cut != ranges:
        ranges, (of_ranges, _) = cut, _passed(recording, cut, in_force, staleness)
    found = [of_ranges.of(number, each) for number, each in enumerate(ranges)]
    return _with_values(recording, found, of_ranges.found["near"], staleness)


def _passed(
    recording: Recording, ranges: Sequence[Range], in_force: Sequence[Zone], staleness: int
) -> tuple[_Ranges, NDArray[np.void]]:
    """The results of two passes over the events, and the odd addresses of windows."""
    whole = recording.whole
    areas = array_of([each.zone for each in ranges], [each.mark for each in ranges])
    (rows, to_next, odd), (longest, waits) = recording.spool.both(
        passes.evidence(whole, areas, array_of(in_force), _PCI, (staleness, ODD_LEAST)),
        passes.waits(whole, areas),
    )
    of_ranges = _Ranges(
        np.frombuffer(rows, FOUND),
        np.frombuffer(longest, LONGEST),
        Bins.of(to_next),
        Bins.of(waits),
        whole.has_exits,
    )
    return of_ranges, np.frombuffer(odd, ODD)


def _with_values(
    recording: Recording, found: list[Evidence], near: NDArray[np.int64], staleness: int
) -> list[Evidence]:
    """With the values beside registers that may be an index."""
    may = [n for n, each in enumerate(found) if begins_pair(each)]
    zones = [found[n].zone for n in may]
    places = [pairs.places(near[n]) for n in may]
    for n, values in zip(may, pairs.values(recording, zones, places, staleness), strict=True):
        found[n] = replace(found[n], pair=replace(found[n].pair, values=values))
    return found


def begins_pair(found: Evidence) -> bool:
    """Whether a read or write of the same neighbour follows, neither polled nor in a window."""
    few = found.no_successor > 1 or found.only_value is not None or found.is_window
    return not few and pairs.is_pair(found.pair, found.writes, found.before_window.count)


@dataclass(frozen=True)
class _Ranges:
    """The results of the passes, by range."""

    found: NDArray[np.void]
    longest: NDArray[np.void]
    to_next: Bins
    waits: Bins
    has_exits: bool

    def of(self, number: int, written: Range) -> Evidence:
        """The evidence about one range."""
        row = self.found[number]
        count = {name: int(row[name]) for name in _COUNTS}
        line = int(self.longest[number]["line"])
        never = not (count["in_force"] or count["exits_of_writes"])
        several = count["several_values"] or not count["writes"]
        return Evidence(
            zone=written.zone,
            name=count["name"],
            is_window=written.is_window,
            joined=written.joined,
            in_force=bool(count["in_force"]),
            writes=count["writes"],
            strings=count["strings"],
            reads=count["reads"],
            exits=count["exits"],
            first_line=count["first_line"],
            waits=self.waits.waits(number),
            longest_line=line or None,
            to_next=self.to_next.waits(number),
            pair=_pair(row),
            only_value=None if several else int(row["value"]),
            same_back=count["same_back"],
            other_back=_counted(row["other_back"]),
            repeated=_counted(row["repeated"]),
            counting=_counted(row["counting"]),
            in_range=count["in_range"],
            before_window=_counted(row["window"]),
            mapping=_counted(row["mapping"]),
            no_successor=count["writes"] - count["followed"],
            never_exits=self.has_exits and never,
            parts=row["parts"].tolist(),
            wait_bins=self.waits.powers(number),
        )


def _pair(row: np.void) -> Pair:
    return Pair(
        followed=int(row["followed"]),
        beside=int(row["beside"]["count"]),
        line=int(row["beside"]["line"]) or None,
        read=int(row["read"]),
        polled=int(row["polled"]),
        continued=int(row["continued"]),
    )


def _counted(row: np.void) -> Counted:
    return Counted(int(row["count"]), int(row["line"]) or None)
