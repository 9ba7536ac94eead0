"""Registered coalesced zones, by KVM's rules."""

from __future__ import annotations

import errno
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hv.abi import NR_IOBUS_DEVS
from hv.errors import RequestError

_U64 = (1 << 64) - 1


class Zone(NamedTuple):
    """Addresses `addr` up to, not including, `addr + size`."""

    addr: int
    size: int

    def contains(self, addr: int, length: int) -> bool:
        """Does the range lie wholly inside? In 64 bits, as KVM's coalesced_mmio_in_range.

        A zone that reaches the end of the space wraps there and contains nothing.
        """
        end = (addr + length) & _U64
        return end >= addr >= self.addr and end <= (self.addr + self.size) & _U64


class Zones:
    """The zones of one kind, MMIO or PIO, of one VM."""

    def __init__(self) -> None:
        self._zones: list[Zone] = []

    def __len__(self) -> int:
        return len(self._zones)

    def register(self, addr: int, size: int) -> None:
        """Add a zone, also one that is there already.

        Raises RequestError with ENOSPC past 1,000 zones.
        """
        if len(self._zones) >= NR_IOBUS_DEVS:
            raise RequestError(
                errno.ENOSPC, f"no more than {NR_IOBUS_DEVS} coalesced zones of a kind"
            )
        self._zones.append(Zone(addr, size))

    def unregister(self, addr: int, size: int) -> int:
        """Remove every zone that contains the range; how many, 0 being fine."""
        before = len(self._zones)
        self._zones = [zone for zone in self._zones if not zone.contains(addr, size)]
        return before - len(self._zones)

    def covers(self, addr: int, length: int) -> bool:
        """Does an access of `length` bytes lie wholly inside one zone?"""
        return any(zone.contains(addr, length) for zone in self._zones)

    def touches(self, addr: int, length: int) -> bool:
        """Does an access of `length` bytes share a byte with some zone?"""
        return any(
            zone.addr < addr + length and addr < zone.addr + zone.size for zone in self._zones
        )

    def outermost(self) -> NDArray[np.uint64]:
        """(first, last) addresses, ascending, of the zones that lie inside no other one.

        An access is inside one of these exactly when it is inside any zone, and both columns
        ascend, so that a binary search decides.
        """
        kept: list[tuple[int, int]] = []
        spans = {
            (zone.addr, zone.addr + zone.size - 1)
            for zone in self._zones
            if zone.size and zone.addr + zone.size <= _U64
        }
        for first, last in sorted(spans, key=lambda span: (span[0], -span[1])):
            if not kept or last > kept[-1][1]:
                kept.append((first, last))
        return np.array(kept, dtype=np.uint64).reshape(-1, 2)
