"""Which writes the accelerator may queue, and when the queue must reach the devices."""

from __future__ import annotations

import errno
from collections.abc import Callable

from devices.bus.address_space import AddressSpace, FlatRange, Mapping
from hv.errors import HostError, RequestError
from vmm.accel.base import Accelerator

Zone = tuple[int, int, bool]  # address, size, port?

_KINDS_KEPT = 4096  # a guest may write to any number of addresses


class Coalescing:
    """Keeps the accelerator's zones equal to the coalescible ranges that are mapped.

    The drain itself is the dispatcher's; what is here says when: before a mapping changes, before
    anything but the queue looks at a device, before the end. A flush that a device triggers while
    the queue is being drained is a no-op: the outer drain keeps the order.
    """

    def __init__(self, accel: Accelerator, spaces: dict[bool, AddressSpace], enabled: bool) -> None:
        """`spaces`: the memory (False) and port (True) address spaces."""
        self._accel = accel
        self._spaces = spaces
        self._drain: Callable[[], int] = lambda: 0
        self._draining = False
        self._zones: set[Zone] = set()
        # What `kind_of` said of writes that exited lately: the way of every exit leads past it.
        self.kinds: dict[tuple[int, int, bool], str] = {}
        self.supported = {
            False: enabled and accel.coalesced_mmio,
            True: enabled and accel.coalesced_pio,
        }
        for space in spaces.values():
            space.on_change(self._before_change, self._after_change)

    def drain_with(self, drain: Callable[[], int]) -> None:
        """Set what carries queued writes to the devices; it returns how many there were."""
        self._drain = drain

    def flush(self) -> int:
        """Bring every queued write to its device now; how many. A no-op during a drain."""
        if self._draining:
            return 0
        self._draining = True
        try:
            return self._drain()
        finally:
            self._draining = False

    def kind_of(self, address: int, size: int, port: bool) -> str:
        """Why a write had to exit: 'ring_full', 'straddle' or 'no_zone'."""
        known = self.kinds.get((address, size, port))
        if known is None:
            known = self._find_kind(address, size, port)
            if len(self.kinds) < _KINDS_KEPT:
                self.kinds[address, size, port] = known
        return known

    def _find_kind(self, address: int, size: int, port: bool) -> str:
        touched = False
        for start, length, is_port in self._zones:
            if is_port is not port:
                continue
            if start <= address and address + size <= start + length:
                return "ring_full"
            touched = touched or (address < start + length and start < address + size)
        return "straddle" if touched else "no_zone"

    def _before_change(self) -> None:
        # The guest must not queue under the old mapping what would be drained under the new one.
        self._accel.pause()
        self.flush()

    def _after_change(self) -> None:
        wanted = self._wanted()
        # Zones that stay are left alone; the old ones are gone before the new ones count.
        for address, size, port in sorted(self._zones - wanted):
            self._accel.unregister_coalesced(address, size, port)
        for address, size, port in sorted(wanted - self._zones):
            try:
                self._accel.register_coalesced(address, size, port)
            except RequestError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise HostError(f"no coalesced zone for {address:#x}+{size:#x}: {error}") from error
        self._zones = wanted
        self.kinds.clear()

    def _wanted(self) -> set[Zone]:
        """The visible parts of the coalescible ranges, of the kinds that are supported."""
        zones: set[Zone] = set()
        for port, space in self._spaces.items():
            if not self.supported[port]:
                continue
            for flat in space.flat():
                if flat.mapping is not None:
                    zones |= {(s, e - s, port) for s, e in _visible(flat, flat.mapping)}
        return zones


def _visible(flat: FlatRange, mapping: Mapping) -> list[tuple[int, int]]:
    """[start, end) of the mapping's coalescible ranges within `flat`, overlapping ones as one.

    Merged, because unregistering a zone would take along another that contains it.
    """
    merged: list[tuple[int, int]] = []
    for offset, size in sorted(mapping.region.coalesced):
        start = max(flat.start, mapping.base + offset)
        end = min(flat.end, mapping.base + offset + size)
        if start >= end:
            continue
        if merged and start < merged[-1][1]:
            start, last_end = merged.pop()
            end = max(end, last_end)
        merged.append((start, end))
    return merged
