"""The lines of QEMU's events memory_region_ops_read and memory_region_ops_write.

    memory_region_ops_write cpu 0 mr 0x55955f9573d0 addr 0x3c4 value 0x204 size 2 name 'vga'

QEMU logs the name since 7.0. Text before the event is ignored if it ends in a blank, a colon or Z:
QEMU's own time stamps, the date of its log since 10.2, prefixes of ftrace and syslog.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.traces.columns import Columns, Mask, Positions, Words, word

EXPECTED = "memory_region_ops_read|write cpu N mr 0x… addr 0x… value 0x… size 1|2|4|8 name '…'"
NAME_MAX = 96

# Events of the same family whose addresses are offsets in a region of unknown address.
APART = ("memory_region_ram_device_", "memory_region_subpage_")


@dataclass(frozen=True)
class Lines:
    """One line per call of a device's handler, in columns. `name` counts in a `Names`."""

    number: NDArray[np.int64]  # of the line in its file, from 1
    cpu: NDArray[np.int64]
    mr: Words
    address: Words
    value: Words
    size: NDArray[np.uint32]
    is_read: Mask
    name: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.number)

    def take(self, which: Mask | Positions) -> Self:
        """The chosen lines, in that order."""
        return type(self)(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """The lines of several blocks, one behind the other; at least one block."""
        every = list(parts)
        columns = ([getattr(part, f.name) for part in every] for f in fields(cls))
        return cls(*(np.concatenate(column) for column in columns))

    @classmethod
    def none(cls) -> Self:
        """No line."""
        number, word_, flag = np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, bool)
        size, name = np.empty(0, np.uint32), np.empty(0, np.int32)
        return cls(number, number, word_, word_, word_, size, flag, name)


class Foreign(NamedTuple):
    """A line that is not an access logged by QEMU."""

    line: int
    text: bytes


@dataclass
class Names:
    """The names of regions, numbered in the order of their first use."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def of(self, columns: Columns, start: Positions, end: Positions) -> NDArray[np.int32]:
        """The numbers of the names in [start, end)."""
        # Equal names have the same digest; the first name represents its digest.
        digest = (end - start).astype(np.uint64)
        for at in range(0, int((end - start).max(initial=0)), 8):
            left = np.clip(end - start - at, 0, 8)
            keep = ~np.uint64(0) >> (64 - 8 * np.maximum(left, 1)).astype(np.uint64)
            part = np.where(left > 0, columns.words(start + np.minimum(at, end - start)) & keep, 0)
            digest = (digest ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            digest ^= digest >> np.uint64(29)
        _, first, which = np.unique(digest, return_index=True, return_inverse=True)
        numbers = [
            self.numbers.setdefault(columns.block[start[i] : end[i]], len(self.numbers))
            for i in sorted(first.tolist())
        ]
        by_digest = np.empty(len(first), np.int32)
        by_digest[np.argsort(first)] = numbers
        return np.asarray(by_digest[which.reshape(-1)])


class Reader:
    """Reads a trace block by block, and counts the lines that are not accesses."""

    def __init__(self) -> None:
        self.names = Names()
        self.apart: Counter[str] = Counter()
        self.foreign = 0
        self.first_foreign: Foreign | None = None
        self._lines_before = 0

    def read(self, block: bytes) -> Lines:
        """The accesses of a block of whole lines."""
        columns = Columns(block)
        events = _events(columns)
        taken = _Fields(columns, events)
        lines = taken.lines(self.names, self._lines_before)
        of = columns.line_of(events)
        known = np.zeros(len(columns.ends), dtype=bool)
        known[of[taken.good]] = True
        for name in APART:
            apart = _begins_with(columns, events, name)
            known[of[apart]] = True
            if apart.any():
                self.apart[name.rstrip("_")] += int(apart.sum())
        if not known.all():
            self._count_foreign(columns, ~known & ~columns.blank())
        self._lines_before += len(known)
        return lines

    def _count_foreign(self, columns: Columns, foreign: Mask) -> None:
        found = np.flatnonzero(foreign)
        self.foreign += len(found)
        if self.first_foreign is None and len(found):
            first = int(found[0])
            self.first_foreign = Foreign(self._lines_before + first + 1, columns.text(first))


def _events(columns: Columns) -> Positions:
    """The position of the first word memory_region_… of each line that has one."""
    at = columns.find("m")
    at = at[columns.has(at, "memory_r")]
    before = columns.words(at - 1, 1)
    starts = columns.starts[columns.line_of(at)] == at
    at = at[starts | np.isin(before, [word(c) for c in (" ", ":", "Z", "\t")])]
    line = columns.line_of(at)
    first = np.concatenate(([True], line[1:] != line[:-1]))[: len(at)]
    return np.asarray(at[first])


def _begins_with(columns: Columns, at: Positions, text: str) -> Mask:
    found = np.ones(len(at), dtype=bool)
    for start in range(0, len(text), 8):
        found &= columns.has(at + start, text[start : start + 8])
    return found


class _Fields:
    """The fields of each event's line, which are separated by blanks."""

    def __init__(self, columns: Columns, at: Positions) -> None:
        self._columns = columns
        line = columns.line_of(at)
        end = columns.ends[line]
        self._end = end - columns.has(end - 1, "\r")
        self._line = line
        blanks = np.concatenate((columns.find(" "), np.full(12, len(columns.block))))
        first = np.searchsorted(blanks, at)
        # No field of a line reaches beyond it.
        self._blank = [np.minimum(blanks[first + n], self._end) for n in range(12)]
        b = self._blank
        self.is_read = columns.has(at + 18, "read cpu")
        good = _begins_with(columns, at, "memory_region_ops_")
        good &= self.is_read | columns.has(at + 18, "write cp") & columns.has(b[0], " cpu ")
        self.cpu, cpu_good = self._decimal(b[1] + 1, b[2])
        self.mr, mr_good = self._number(" mr 0x", b[2], b[4])
        nil = columns.has(b[2], " mr (nil") & (b[4] == b[2] + 9)
        self.address, address_good = self._number(" addr 0x", b[4], b[6])
        self.value, value_good = self._number(" value 0", b[6], b[8])
        good &= cpu_good & (mr_good | nil) & address_good & value_good & self._size_good()
        self.mr[nil] = 0
        self.size = columns.words(b[9] + 1, 1).astype(np.uint32) - ord("0")
        self._name_start = np.where(b[10] < self._end, b[10] + 7, self._end)
        good &= self.address + (self.size - np.uint32(1)) >= self.address
        self.good = good & self._name_good()

    def _number(self, before: str, start: Positions, end: Positions) -> tuple[Words, Mask]:
        """A hexadecimal number behind a text, which begins at a blank."""
        digits = start + before.index("0") + 2
        value, good = self._columns.hexadecimal(digits, end)
        return value, good & self._columns.has(start, before) & self._columns.has(digits - 1, "x")

    def _decimal(self, start: Positions, end: Positions) -> tuple[NDArray[np.int64], Mask]:
        """A number of one to four decimal digits, or -1."""
        minus = self._columns.has(start, "-")
        digits, good = self._columns.hexadecimal(start + minus, end)
        value = np.zeros(len(start), np.int64)
        for place in range(4):
            digit = digits >> np.uint64(4 * place) & np.uint64(0xF)
            good &= digit <= 9
            value += digit.astype(np.int64) * 10**place
        return np.where(minus, -value, value), good & (digits < 1 << 16)

    def _size_good(self) -> Mask:
        columns, b = self._columns, self._blank
        size = columns.words(b[9] + 1, 1)
        known = np.isin(size, [word(c) for c in "1248"])
        return np.asarray(columns.has(b[8], " size ") & known & (b[10] == b[9] + 2))

    def _name_good(self) -> Mask:
        """There is no name, or one between the line's only quotes after the event."""
        columns, b = self._columns, self._blank
        quotes = columns.find("'")
        inner = np.searchsorted(quotes, self._end) - np.searchsorted(quotes, b[10])
        named = columns.has(b[10], " name '") & columns.has(self._end - 1, "'") & (inner == 2)
        length = self._end - self._name_start
        return np.asarray((b[10] == self._end) | named & (length <= NAME_MAX + 1))

    def lines(self, names: Names, lines_before: int) -> Lines:
        """The complete ones."""
        good = self.good
        start = self._name_start[good]
        end = np.maximum(self._end[good] - 1, start)
        bits = (8 * self.size[good]).astype(np.uint64)
        # QEMU logs the device's value before it truncates it to the width of the access.
        value = self.value[good] & ~np.uint64(0) >> (np.uint64(64) - bits)
        return Lines(
            self._line[good] + lines_before + 1,
            self.cpu[good],
            self.mr[good],
            self.address[good],
            value,
            self.size[good],
            self.is_read[good],
            names.of(self._columns, start, end),
        )
