"""Divides the addresses that a recording writes into ranges, each of which is judged as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.advise.zones import Written
from coalesced.tools.traces.events import Mask, Words
from coalesced.vmm.zone import Zone

WINDOW_LEAST: Final = 64  # addresses of a range that is taken for memory
WINDOW_GAP: Final = 32
MOST: Final = 8192  # ranges of one recording: each takes some KiB and a row of the report
ODD_LEAST: Final = 4  # late writes, or reads of another value
_MOSTLY: Final = 0.5
_CUTS_MOST: Final = 256  # of a window; one with more is no memory
_PAGE_BITS: Final = 12
_ADDRESS_BITS: Final = 64
ODD: Final = np.dtype(
    [("address", "<u8"), ("size", "<i8")]
    + [(name, "<i8") for name in ("writes", "late", "late_line", "reads", "other", "other_line")]
)


@dataclass(frozen=True)
class Range:
    """A window of memory or a single register; or all those of a block of addresses.

    `joined`: the number of ranges in a block, else 0.
    """

    zone: Zone
    is_window: bool = False  # taken for memory
    joined: int = 0

    @property
    def mark(self) -> int:
        """For `passes.evidence`."""
        return self.is_window | (self.joined > 0) << 1


def ranges(written: Written, most: int = MOST) -> list[Range]:
    """The ranges that are written, ports behind memory, ascending.

    More than `most` are joined by aligned blocks: pages, or larger ones if pages are too many.
    """
    found = _Rows.of(written)
    bits = _PAGE_BITS
    while len(found.first) > most and bits < _ADDRESS_BITS:
        found = found.joined(bits)
        bits += 1
    return [
        Range(
            Zone(pio, first, last - first + 1),
            not pio and last - first >= WINDOW_LEAST - 1,
            count if count > 1 else 0,
        )
        for pio, first, last, count in zip(
            found.pio.tolist(),
            found.first.tolist(),
            found.last.tolist(),
            found.count.tolist(),
            strict=True,
        )
    ]


def without_odd(found: Sequence[Range], odd: NDArray[np.void]) -> list[Range]:
    """The ranges with the registers that lie in windows as ranges of their own.

    Such an address is one where silence follows most writes, and no read returns what was
    written: a doorbell; or where most reads give another value than was written.
    """
    late = (odd["late"] > _MOSTLY * odd["writes"]) & (odd["reads"] <= odd["other"])
    registers = odd[late | (odd["other"] > _MOSTLY * odd["reads"])]
    registers = registers[np.argsort(registers["address"])]
    starts = registers["address"]
    ranges = []
    for each in found:
        a, b = np.searchsorted(starts, (each.zone.address, each.zone.end))
        if a == b or not each.is_window or each.joined:
            ranges.append(each)
        elif b - a > _CUTS_MOST:
            ranges.append(replace(each, joined=int(b - a)))
        else:
            cuts = zip(starts[a:b].tolist(), registers["size"][a:b].tolist(), strict=True)
            ranges += _cut(each.zone, cuts)
    return ranges


def _cut(window: Zone, registers: Iterable[tuple[int, int]]) -> Iterator[Range]:
    """Each register, and the windows between them."""
    at = window.address
    for address, size in registers:
        if address > at:
            yield Range(Zone(False, at, address - at), is_window=True)
        if address >= at:
            yield Range(Zone(False, address, size))
            at = address + size
    if at < window.end:
        yield Range(Zone(False, at, window.end - at), is_window=True)


@dataclass(frozen=True)
class _Rows:
    """Ranges as columns; `count`: the number of ranges in each."""

    pio: Mask
    first: Words
    last: Words
    count: NDArray[np.int64]

    @classmethod
    def of(cls, written: Written) -> Self:
        """Neighbours that are many enough for a window in one range, others alone."""
        first, last = written.address, written.address + (written.size - np.uint64(1))
        new = _changes(written.pio) | np.append(True, np.diff(first) > WINDOW_GAP)[: len(first)]
        lengths = np.diff(np.append(np.flatnonzero(new), len(first)))
        alone = np.repeat(lengths < WINDOW_LEAST, lengths) | written.pio
        found = cls(written.pio, first, last, np.ones(len(first), np.int64))._merged(new | alone)
        return replace(found, count=np.ones(len(found.first), np.int64))

    def joined(self, bits: int) -> Self:
        """Ranges that lie in the same block of 2**bits addresses as one."""
        blocks = (self.first >> np.uint64(bits), self.last >> np.uint64(bits))
        return self._merged(_changes(self.pio) | _changes(blocks[0]) | _changes(blocks[1]))

    def _merged(self, begins: Mask) -> Self:
        at = np.flatnonzero(begins)
        if not len(at):
            return self
        return type(self)(
            self.pio[at],
            self.first[at],
            np.maximum.reduceat(self.last, at),
            np.add.reduceat(self.count, at),
        )


def _changes(column: NDArray[np.generic]) -> Mask:
    """True for each value that differs from the one before, and for the first."""
    return np.append(True, column[1:] != column[:-1])[: len(column)]
