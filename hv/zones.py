"""Registered coalesced zones, by KVM's rules."""

from __future__ import annotations

import bisect
import errno
import itertools
from typing import Final, NamedTuple

from coalesced.hv.abi import NR_IOBUS_DEVS
from coalesced.hv.errors import RequestError

_U64 = (1 << 64) - 1
_numbers = itertools.count()


def next_number() -> int:
    """Numbers in the order in which zones and ioeventfds are registered."""
    return next(_numbers)


class Kind(NamedTuple):
    """The ring of the writes inside a zone, and whether they wake the VMM."""

    posted: bool = False  # they wake the VMM
    buffer: int = 0  # the number of the ring that they go to; 0: the VM's


_PLAIN: Final = Kind()


class Zones:
    """The zones of one kind, MMIO or PIO, of one VM: addresses `addr` up to `addr + size`."""

    def __init__(self) -> None:
        # (start, end), ascending. In 64 bits, as KVM compares: the end of a zone that reaches the
        # end of the space is 0.
        self._zones: list[tuple[int, int]] = []
        self._widest = 0  # size of the largest zone so far
        self._kinds: dict[tuple[int, int], Kind] = {}  # of those that are not plain
        self._order: dict[tuple[int, int], int] = {}  # number of the first registration

    def __len__(self) -> int:
        return len(self._zones)

    def register(self, addr: int, size: int, posted: bool = False, buffer: int = 0) -> None:
        """Add a zone, also one that is there already. `posted`, `buffer`: as in `Kind`.

        Raises RequestError: ENOSPC past 1,000 zones, EEXIST where it would overlap one of another
        kind.
        """
        if len(self._zones) >= NR_IOBUS_DEVS:
            raise RequestError(
                errno.ENOSPC, f"no more than {NR_IOBUS_DEVS} coalesced zones of a kind"
            )
        zone = (addr, (addr + size) & _U64)
        kind = Kind(posted, buffer)
        if kind != _PLAIN or self._kinds:
            self._check_apart(zone, kind)
        if kind != _PLAIN:
            self._kinds[zone] = kind
        self._order.setdefault(zone, next_number())
        bisect.insort(self._zones, zone)
        self._widest = max(self._widest, zone[1] - zone[0])

    def unregister(self, addr: int, size: int) -> int:
        """Remove every zone that contains the range; how many, 0 being fine."""
        removed = self._containing(addr, size)
        self._remove(removed)
        return len(removed)

    def give_up(self, buffer: int) -> None:
        """Remove the zones of a buffer, which is none of the VM's ring."""
        self._remove(
            [at for at, zone in enumerate(self._zones) if self._kind(zone).buffer == buffer]
        )

    def _remove(self, places: list[int]) -> None:
        for at in reversed(places):
            self._kinds.pop(self._zones[at], None)
            self._order.pop(self._zones[at], None)
            del self._zones[at]

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

    def kind_of(self, first: int, last: int) -> Kind:
        """The kind of a zone of `outermost`."""
        return self._kind((first, last + 1))

    def _kind(self, zone: tuple[int, int]) -> Kind:
        return self._kinds.get(zone, _PLAIN)

    def _check_apart(self, zone: tuple[int, int], kind: Kind) -> None:
        for other in self._zones:
            apart = zone[1] <= other[0] or other[1] <= zone[0]
            if not apart and (there := self._kind(other)) != kind:
                same = there.buffer == kind.buffer
                why = "only one of them is posted" if same else "they are of different rings"
                raise RequestError(
                    errno.EEXIST,
                    f"coalesced zone {zone[0]:#x}+{zone[1] - zone[0]:#x}: a zone overlaps it, and "
                    f"{why}",
                )

    def _containing(self, addr: int, length: int) -> list[int]:
        """Places of the zones that the range lies wholly inside of, as coalesced_mmio_in_range."""
        end = (addr + length) & _U64
        low = bisect.bisect_left(self._zones, (end - self._widest,))
        high = bisect.bisect_right(self._zones, (addr, _U64))
        return [at for at in range(low, high) if addr <= end <= self._zones[at][1]]
