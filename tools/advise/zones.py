"""Coalesced zones, given or inferred from the writes that did not exit; and their ring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import NR_IOBUS_DEVS
from coalesced.tools.advise import passes
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.spool import array_of
from coalesced.tools.traces.events import Mask, Words
from coalesced.vmm.zone import Zone

GAP_MAX: Final = 0x20000  # an inferred zone has no larger gap between two writes
_QUEUED, _EXITS_FULL, _EXITS_APART = 1, 2, 4


@dataclass(frozen=True)
class Written:
    """The addresses that are written, ports behind memory, ascending; not those in the kernel.

    `how`: bits of _QUEUED, _EXITS_FULL (as the ring may have been full), _EXITS_APART.
    """

    address: Words
    pio: Mask
    size: Words  # of the widest write
    how: Words

    @classmethod
    def of_recording(cls, recording: Recording, ring: Ring) -> Self:
        """Survey a recording."""
        rows = np.frombuffer(recording.spool.through(passes.survey(ring.least)), np.uint64)
        address, pio, size, how = rows.reshape(-1, 4).T
        order = np.lexsort((address, pio))
        return cls(address[order], pio[order] == 1, size[order], how[order])

    def of(self, pio: bool, which: Mask) -> tuple[Words, Words]:
        """Addresses of ports or memory, and their widest writes."""
        which = which & (self.pio == pio)
        return self.address[which], self.size[which]


def inferred(written: Written, recording: Recording) -> list[Zone]:
    """The zones in force: ranges whose writes do not exit, except where the ring is full.

    Where they are more than a kernel has room for, writes that exit do not part them, and the gaps
    between them may be wider.
    """
    if not recording.whole.has_exits:
        return []
    queued = (written.how & _QUEUED) != 0
    apart = (written.how & _EXITS_APART) != 0
    starts, size = written.of(False, queued | ~apart)
    others, _ = written.of(False, ~queued & apart)
    lasts = starts + (size - np.uint64(1))
    found, gap = _merged(starts, lasts, others, GAP_MAX), GAP_MAX
    while len(found) > NR_IOBUS_DEVS:
        found, gap = _merged(starts, lasts, others[:0], gap), gap * 2
    return found


def _merged(starts: Words, lasts: Words, apart: Words, gap_most: int) -> list[Zone]:
    if not len(starts):
        return []
    gap = starts[1:] - np.minimum(lasts[:-1], starts[1:])
    between = np.searchsorted(apart, starts[1:]) != np.searchsorted(apart, starts[:-1])
    new = np.append(True, (gap > gap_most) | between)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(starts)) - 1
    return [
        Zone(False, int(starts[a]), int(lasts[a : b + 1].max() - starts[a]) + 1)
        for a, b in zip(first, last, strict=True)
    ]


@dataclass(frozen=True)
class Agreement:
    """The ring's rules held against the recording, write by write.

    `explained`: of the writes that do not agree, those that do with the unseen drains.
    """

    writes: int
    exits: int
    predicted: int
    agreed: int
    unseen_drains: int
    explained: int
    disagreements: Sequence[int]  # the lines of the first ten that nothing explains


@dataclass(frozen=True)
class Force:
    """The zones in force, their ring, and its drains that no line of an exit shows.

    `queued`: the writes that were queued; `drains`: the numbers among them of those right before
    which there is such a drain.
    """

    zones: Sequence[Zone]
    ring: Ring
    drains: NDArray[np.int64]
    queued: int = 0

    @classmethod
    def of(cls, recording: Recording, zones: Sequence[Zone], ring: Ring) -> Self:
        """Find the drains, and for an old kernel the slot of the first entry."""
        if not recording.whole.has_exits:
            return cls(zones, ring, np.empty(0, np.int64))
        step = passes.unseen(recording.whole, array_of(zones), ring.slots, not ring.mended)
        drains, queued, counts = recording.spool.through(step)
        if counts:
            fullness = np.frombuffer(counts, np.int64).reshape(ring.slots, ring.slots, 2)
            ring = _located(fullness, ring)
        return cls(zones, ring, np.frombuffer(drains, np.int64), queued)


def _located(fullness: NDArray[np.int64], ring: Ring) -> Ring:
    """The ring with the slot of the first entry that explains most writes."""
    first, entries = (np.asarray(each) for each in np.indices(fullness.shape[:2]))

    def explained(start: int) -> int:
        full = replace(ring, start=start).is_full(entries, first)
        return int(np.where(full, fullness[..., 1], fullness[..., 0]).sum())

    return replace(ring, start=max(range(ring.slots), key=explained))
