"""Registered coalesced zones, by KVM's rules."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import NR_IOBUS_DEVS
from coalesced.hv.errors import RequestError

_U64 = (1 << 64) - 1


class Zones:
    """The zones of one kind, MMIO or PIO, of one VM: addresses `addr` up to `addr + size`.

    They lie in arrays, in no order: a look at all 1,000 costs a few microseconds.
    """

    def __init__(self) -> None:
        self._count = 0
        # In 64 bits, as KVM compares: the end of a zone that reaches the end of the space is 0.
        self._starts = np.zeros(NR_IOBUS_DEVS, np.uint64)
        self._ends = np.zeros(NR_IOBUS_DEVS, np.uint64)

    def __len__(self) -> int:
        return self._count

    def register(self, addr: int, size: int) -> None:
        """Add a zone, also one that is there already.

        Raises RequestError with ENOSPC past 1,000 zones.
        """
        if self._count >= NR_IOBUS_DEVS:
            raise RequestError(
                errno.ENOSPC, f"no more than {NR_IOBUS_DEVS} coalesced zones of a kind"
            )
        self._starts[self._count] = addr
        self._ends[self._count] = (addr + size) & _U64
        self._count += 1

    def unregister(self, addr: int, size: int) -> int:
        """Remove every zone that contains the range; how many, 0 being fine."""
        kept = ~self._containing(addr, size)
        removed = self._count - int(np.count_nonzero(kept))
        if removed:
            starts, ends = self._starts[: self._count][kept], self._ends[: self._count][kept]
            self._count -= removed
            self._starts[: self._count], self._ends[: self._count] = starts, ends
        return removed

    def covers(self, addr: int, length: int) -> bool:
        """Whether an access of `length` bytes lies wholly inside one zone."""
        return bool(self._containing(addr, length).any())

    def outermost(self) -> NDArray[np.uint64]:
        """(first, last) addresses, ascending, of the zones that lie inside no other one.

        An access is inside one of these exactly when it is inside any zone, and both columns
        ascend, so that a binary search decides.
        """
        starts, ends = self._starts[: self._count], self._ends[: self._count]
        lasts = ends - np.uint64(1)
        # Of equal starts the longest comes first; a zone that wraps or is empty holds nothing.
        order = np.lexsort((~lasts, starts))
        order = order[(ends > starts)[order]]
        starts, lasts = starts[order], lasts[order]
        kept = np.ones(len(lasts), bool)
        kept[1:] = lasts[1:] > np.maximum.accumulate(lasts)[:-1]
        return np.stack((starts[kept], lasts[kept]), axis=1)

    def _containing(self, addr: int, length: int) -> NDArray[np.bool_]:
        """Per zone: does the range lie wholly inside? As KVM's coalesced_mmio_in_range."""
        end = (addr + length) & _U64
        if end < addr:
            return np.zeros(self._count, bool)
        inside: NDArray[np.bool_] = (self._starts[: self._count] <= addr) & (
            self._ends[: self._count] >= end
        )
        return inside
