"""Restores the guest's accesses from the handler calls that QEMU logs.

QEMU logs a line for each call of a region's handler. It cuts an access that is wider than the
region's .impl.max_access_size into pieces of that size, in ascending order, and logs each; and a
region that passes an access to another one is logged as well. Here pieces become one access
again, and of an access that was passed on one line is kept.

Not every pair of neighbouring bytes was one access: a guest that fills a font byte by byte looks
like one that fills it by words. So pieces are joined only where the address determines the width of
the guest's accesses, see SPLITS: a text cell is written as character and attribute in one word, an
index register with its data register in one word. All other lines count as logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from coalesced.tools.traces.events import Events, Mask, Positions
from coalesced.tools.traces.reader import Names
from coalesced.vmm.tracing import WHOLE_ACCESSES

UNNAMED: Final = b""  # QEMU before 7.0 names no region
TOGETHER: Final = 64  # the lines of one access: lines of other vCPUs may come between
_REACH: Final = 4 * TOGETHER  # lines that may decide about one


@dataclass(frozen=True)
class Split:
    """The accesses to a region that QEMU cuts into pieces.

    `impl`: its .impl.max_access_size, the size of a piece. `joined`: (first address, end, width
    in which guests access it).
    """

    impl: int
    joined: tuple[tuple[int, int, int], ...]


# The text windows of a VGA: MDA's and CGA's. The window for graphics and fonts below, 0xa0000, is
# accessed in every width.
_TEXT_CELLS = ((0xB0000, 0xC0000, 2),)
# Sequencer, graphics and CRT controller, each an index register and a data register. Not
# 0x3c8, whose neighbour is the DAC's data port, written a byte at a time.
_INDEX_AND_DATA = tuple((port, port + 2, 2) for port in (0x3B4, 0x3C4, 0x3CE, 0x3D4))

# By the region's name. Sources: hw/display/vga.c (vga_mem_ops) and hw/display/cirrus_vga.c
# (cirrus_vga_mem_ops, cirrus_vga_io_ops) of QEMU 7.2, where .impl.max_access_size is 1. A boot of
# SeaBIOS 1.16 with the std VGA, whose ports take words whole, writes 2,940 words to 0x3d4 and no
# byte; with the Cirrus each write of 0x3d4 is followed by one of 0x3d5.
SPLITS: Final[Mapping[bytes, Split]] = MappingProxyType(
    {
        b"vga-lowmem": Split(1, _TEXT_CELLS),
        b"cirrus-low-memory": Split(1, _TEXT_CELLS),
        b"cirrus-io": Split(1, _INDEX_AND_DATA),
        UNNAMED: Split(1, _TEXT_CELLS),
    }
)


@dataclass(frozen=True)
class Counted:
    """All lines, those of no vCPU, further pieces of an access (`joined`), and copies of an access
    in another region (`nested`)."""

    lines: int
    no_vcpu: int
    joined: int
    nested: int


NOTHING_COUNTED: Final = Counted(0, 0, 0, 0)


def accesses(lines: Events, names: Names) -> tuple[Events, Counted]:
    """The guest's accesses, each at the place of its first line."""
    guest = lines.take(lines.thread >= 0)
    order = np.argsort(guest.thread, kind="stable")
    guest = guest.take(order)
    guest, order, nested = _without_nested(guest, order)
    guest, order, joined = _with_pieces_joined(guest, order, names)
    counted = Counted(len(lines), len(lines) - len(order) - nested - joined, joined, nested)
    return guest.take(np.argsort(order, kind="stable")), counted


class Joiner:
    """Restores accesses from lines that come in parts, as `accesses` does from all of them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._held = Events.none()
        self._done = 0  # up to this line the accesses were given

    def feed(self, lines: Events) -> Events:
        """Take the next lines; the accesses about which no later line can decide."""
        self._held = Events.joined((self._held, lines))
        if not len(self._held):
            return self._held
        newest = int(self._held.number[-1]) - _REACH
        found = self._until(newest)
        self._held = self._held.take(self._held.number > newest - _REACH)
        return found

    def end(self) -> Events:
        """The other accesses."""
        return self._until(int(self._held.number[-1])) if len(self._held) else self._held

    def _until(self, line: int) -> Events:
        found, _ = accesses(self._held, self._names)
        found = found.take((found.number > self._done) & (found.number <= line))
        self._done = max(self._done, line)
        return found


def _alike(lines: Events, apart: int, first: Positions) -> Mask:
    """Of the lines at `first`: those with the direction and vCPU of the line `apart` behind."""
    other = np.minimum(first + apart, len(lines) - 1)
    same = (lines.thread[first] == lines.thread[other]) & (
        lines.is_read[first] == lines.is_read[other]
    )
    same &= lines.number[other] - lines.number[first] <= TOGETHER
    return np.asarray(same & (first + apart < len(lines)) & (lines.mr[first] < WHOLE_ACCESSES))


# --- an access that one region passes to another ---


def _without_nested(lines: Events, order: Positions) -> tuple[Events, Positions, int]:
    """Keep only the outer region's line of an access that was passed on; it has its address.

    The outer one is first of writes and last of reads; the inner one may be in pieces.
    """
    left_out = np.zeros(len(lines), dtype=bool)
    for pieces in (1, 2, 4, 8):
        left_out[_inner(lines, pieces)] = True
    kept = np.flatnonzero(~left_out)
    return lines.take(kept), order[kept], len(lines) - len(kept)


def _inner(lines: Events, pieces: int) -> Positions:
    """The lines of inner regions that took the pieces of an outer one's access."""
    first = _candidates(lines, pieces)
    first = first[_alike(lines, pieces, first)]
    read = lines.is_read[first]
    # Where the outer line and the first inner one stand in a group that begins at `first`.
    outer, inner = first + np.where(read, pieces, 0), first + np.where(read, 0, 1)
    size = lines.size[outer] // pieces
    mask = ~np.uint64(0) >> (64 - 8 * np.maximum(size, 1)).astype(np.uint64)
    good = np.ones(len(first), dtype=bool)
    for piece in range(pieces):
        at, offset = inner + piece, size * piece
        value = lines.value[outer] >> (8 * offset).astype(np.uint64) & mask
        good &= (lines.mr[at] == lines.mr[inner]) & (lines.thread[at] == lines.thread[outer])
        good &= (lines.is_read[at] == read) & (lines.size[at] == size) & (lines.value[at] == value)
        good &= lines.address[at] == lines.address[outer] + offset.astype(np.uint64)
    found = inner[good]
    return np.asarray((found[:, None] + np.arange(pieces)).reshape(-1))


def _candidates(lines: Events, pieces: int) -> Positions:
    """The few lines that are followed by a line of another region for the same address."""
    count = max(len(lines) - pieces, 0)

    def other_region(apart: int) -> Mask:
        end = count + apart
        same_address = lines.address[:count] == lines.address[apart:end]
        return np.asarray(same_address & (lines.mr[:count] != lines.mr[apart:end]))

    found = np.where(lines.is_read[:count], other_region(pieces), other_region(1))
    return np.flatnonzero(found)


# --- an access that QEMU cut into pieces ---


def _with_pieces_joined(
    lines: Events, order: Positions, names: Names
) -> tuple[Events, Positions, int]:
    value, size = lines.value.copy(), lines.size.copy()
    gone = np.zeros(len(lines), dtype=bool)
    for name, split in SPLITS.items():
        if name not in names.numbers:
            continue
        pieces_of = (lines.name == names.numbers[name]) & (lines.size == split.impl)
        for start, end, width in split.joined:
            inside = (lines.address >= start) & (lines.address < end)
            begins = pieces_of & inside & (lines.address % np.uint64(width) == 0)
            first = _complete(lines, np.flatnonzero(begins), split.impl, width)
            for piece in range(1, width // split.impl):
                value[first] |= lines.value[first + piece] << np.uint64(8 * split.impl * piece)
                gone[first + piece] = True
            size[first] = width
    joined = replace(lines, value=value, size=size)
    kept = np.flatnonzero(~gone)
    return joined.take(kept), order[kept], int(gone.sum())


def _complete(lines: Events, first: Positions, impl: int, width: int) -> Positions:
    """The first pieces that are followed by all others."""
    for piece in range(1, width // impl):
        good = _alike(lines, piece, first)
        first = first[good]
        at = first + piece
        good = (lines.mr[at] == lines.mr[first]) & (lines.size[at] == impl)
        good &= lines.address[at] == lines.address[first] + np.uint64(piece * impl)
        first = first[good]
    return first
