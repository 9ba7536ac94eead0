"""Registered coalesced zones, by KVM's rules."""

from __future__ import annotations

import bisect
import errno
import itertools

from coalesced.hv.abi import NR_IOBUS_DEVS
from coalesced.hv.errors import RequestError

_U64 = (1 << 64) - 1
_numbers = itertools.count()


def next_number() -> int:
    """Numbers in the order in which zones and ioeventfds are registered."""
    return next(_numbers)


class Zones:
    """The zones of one kind, MMIO or PIO, of one VM: addresses `addr` up to `addr + size`."""

    def __init__(self) -> None:
        # (start, end), ascending. In 64 bits, as KVM compares: the end of a zone that reaches the
        # end of the space is 0.
        self._zones: list[tuple[int, int]] = []
        self._widest = 0  # size of the largest zone so far
        self._posted: set[tuple[int, int]] = set()
        self._order: dict[tuple[int, int], int] = {}  # number of the first registration

    def __len__(self) -> int:
        return len(self._zones)

    def register(self, addr: int, size: int, posted: bool = False) -> None:
        """Add a zone, also one that is there already. `posted`: its writes wake the VMM.

        Raises RequestError: ENOSPC past 1,000 zones, EEXIST where a posted zone would overlap
        another that is none.
        """
        if len(self._zones) >= NR_IOBUS_DEVS:
            raise RequestError(
                errno.ENOSPC, f"no more than {NR_IOBUS_DEVS} coalesced zones of a kind"
            )
        zone = (addr, (addr + size) & _U64)
        if posted or self._posted:
            self._check_apart(zone, posted)
        if posted:
            self._posted.add(zone)
        self._order.setdefault(zone, next_number())
        bisect.insort(self._zones, zone)
        self._widest = max(self._widest, zone[1] - zone[0])

    def unregister(self, addr: int, size: int) -> int:
        """Remove every zone that contains the range; how many, 0 being fine."""
        removed = self._containing(addr, size)
        for at in reversed(removed):
            self._posted.discard(self._zones[at])
            self._order.pop(self._zones[at], None)
            del self._zones[at]
        return len(removed)

    def covers(self, addr: int, length: int) -> bool:
        """Whether an access of `length` bytes lies wholly inside one zone."""
        return bool(self._containing(addr, length))

    def outermost(self) -> list[tuple[int, int]]:
        """(first, last) addresses, ascending, of the zones that lie inside no other one.

        An access is inside one of these exactly when it is inside any zone, and both numbers
        ascend, so that a binary search decides.
        """
        found: list[tuple[int, int]] = []
        reached = 0
        for start, end in self._zones:
            if end <= max(start, reached):
                continue  # it wraps or is empty and holds nothing, or lies inside one before it
            if found and found[-1][0] == start:
                found.pop()  # of equal starts the longest comes last
            found.append((start, end - 1))
            reached = end
        return found

    def precede(self, addr: int, length: int, number: int) -> bool:
        """Whether a zone takes a write before the ioeventfd of that number there does.

        The one registered first does; but a zone that starts at the write and is longer comes
        behind the ioeventfd always (measured on KVM 6.18).
        """
        zones = [self._zones[at] for at in self._containing(addr, length)]
        return any(
            self._order[zone] < number and (zone[0] < addr or zone[1] == addr + length)
            for zone in zones
        )

    def is_posted(self, first: int, last: int) -> bool:
        """Whether the zone of `outermost` is a posted one."""
        return (first, last + 1) in self._posted

    def _check_apart(self, zone: tuple[int, int], posted: bool) -> None:
        for other in self._zones:
            apart = zone[1] <= other[0] or other[1] <= zone[0]
            if not apart and (other in self._posted) is not posted:
                raise RequestError(
                    errno.EEXIST,
                    f"coalesced zone {zone[0]:#x}+{zone[1] - zone[0]:#x}: a zone overlaps it, and "
                    "only one of them is posted",
                )

    def _containing(self, addr: int, length: int) -> list[int]:
        """Places of the zones that the range lies wholly inside of, as coalesced_mmio_in_range."""
        end = (addr + length) & _U64
        low = bisect.bisect_left(self._zones, (end - self._widest,))
        high = bisect.bisect_right(self._zones, (addr, _U64))
        return [at for at in range(low, high) if addr <= end <= self._zones[at][1]]
