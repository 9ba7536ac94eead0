"""The zones whose writes the accelerator queues."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from coalesced.devices.bus.address_space import AddressSpace, FlatRange, Mapping
from coalesced.devices.bus.region import Region
from coalesced.hv.client import Range, ZoneChange
from coalesced.hv.errors import PeerDied
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.drain import Drain, Queue
from coalesced.vmm.own_rings import OwnRings
from coalesced.vmm.zone import AS_DECLARED, Choice, without

Ranges = tuple[Range, ...]

_Kind = tuple[bool, Queue | None]
"""Whether a zone is a posted one, and the own ring that it names; None: the VM's."""

_KINDS_KEPT = 4096  # a guest may write to any number of addresses
_LARGEST = 1 << 31  # bytes of a zone: KVM counts them in 32 bits
_TOP = 1 << 64  # a zone that ends here holds nothing: KVM compares 64-bit sums


class Coalescing:
    """Keeps the accelerator's zones equal to the ranges that are mapped, and declared or chosen.

    Ranges for which the kernel has no room go without a zone: their writes exit; so do those of
    posted ranges where the accelerator has no posted zones. Before a mapping
    changes the guest stops and the queue is drained.
    """

    def __init__(
        self,
        accel: Accelerator,
        spaces: dict[bool, AddressSpace],
        enabled: bool,
        drain: Drain,
        warn: Callable[[str], None] = lambda _line: None,
        choice: Choice = AS_DECLARED,
        own: OwnRings | None = None,
    ) -> None:
        """`spaces`: the memory (False) and port (True) address spaces. `warn`: takes a line.

        `own`: rings that devices have for themselves; None: none.
        """
        self.choice = choice
        self._own = own
        self._accel = accel
        self._warn = warn
        self._drain = drain
        # By port?: the registered zones, in ascending order; no two overlap.
        self.zones: dict[bool, list[Range]] = {False: [], True: []}
        self._registered: dict[bool, dict[Range, _Kind]] = {False: {}, True: {}}
        self.edges: dict[bool, list[int]] = {False: [], True: []}  # the same: starts and ends
        self.changed: Callable[[bool], None] = lambda _port: None  # called after zones changed
        self._warned: set[bool] = set()
        self._spaces = spaces
        self._events: dict[bool, list[Range]] = {False: [], True: []}  # zones leave them out
        # The first answers of `kind_of`, which dispatching an exit looks up by itself.
        self.kinds: dict[tuple[int, int, bool], str] = {}
        self.supported = {
            False: enabled and accel.coalesced_mmio,
            True: enabled and accel.coalesced_pio,
        }
        self._spaces = spaces
        for port, space in spaces.items():
            if self.supported[port]:
                space.on_change(self._before_change, partial(self._after_change, port, space))
            else:
                space.on_change(self._before_change, lambda: None)

    def choose(self, choice: Choice) -> None:
        """Queue by another choice from now on, where anything can be queued."""
        self._before_change()
        self.choice = choice
        for port, space in self._spaces.items():
            if self.supported[port]:
                self._after_change(port, space)

    def kind_of(self, address: int, size: int, port: bool) -> str:
        """The reason for a write's exit: 'ring_full', 'straddle' or 'no_zone'."""
        # Starts and ends alternate: behind an odd number of them an address is in a zone.
        edges = self.edges[port]
        before = bisect_right(edges, address)
        if before != bisect_left(edges, address + size, before):
            kind = "straddle"
        else:
            kind = "ring_full" if before & 1 else "no_zone"
        if len(self.kinds) < _KINDS_KEPT:
            self.kinds[address, size, port] = kind
        return kind

    def leave_out(self, port: bool, address: int, size: int) -> None:
        """Cut the zones around a range, which an ioeventfd takes."""
        self._before_change()
        self._events[port].append((address, size))
        if self.supported[port]:
            self._after_change(port, self._spaces[port])

    def _before_change(self) -> None:
        # The guest must not queue under the old mapping what would be drained under the new one.
        try:
            self._accel.pause()
        except PeerDied as death:  # the writes behind the one that makes the change still count
            self._drain.found_dead(death)
        self._drain.flush_before_change()

    def _after_change(self, port: bool, space: AddressSpace) -> None:
        try:
            self._register_anew(port, space)
        except PeerDied as death:
            self._drain.found_dead(death)

    def _register_anew(self, port: bool, space: AddressSpace) -> None:
        wanted = self._wanted(port, space)
        known = self._registered[port]
        if wanted == known:
            return
        # Zones that stay are left alone; the old ones are gone before the new ones count.
        kept = {zone: kind for zone, kind in known.items() if wanted.get(zone) == kind}
        removed = [zone for zone in known if zone not in kept]
        new = {zone: kind for zone, kind in wanted.items() if zone not in kept}
        refused = self._change(removed, new, port)
        self._registered[port] = kept | {zone: new[zone] for zone in new if zone not in refused}
        self.zones[port] = sorted(self._registered[port])
        self.edges[port] = [
            edge for start, length in self.zones[port] for edge in (start, start + length)
        ]
        self.kinds.clear()
        self.changed(port)
        if refused:
            self._warn_of_no_room(port, refused)

    def _wanted(self, port: bool, space: AddressSpace) -> dict[Range, _Kind]:
        """The zones to register, and the kind of each; no two overlap."""
        choice = self.choice
        posted = choice.posted_of(port, _declared(space, lambda region: region.posted))
        queued = choice.of(port, _declared(space, lambda region: region.coalesced))
        events = self._events[port]
        wanted = self._kinds_of(space, without(queued, posted + events), False)
        if self._accel.posted:
            wanted |= self._kinds_of(space, without(posted, events), True)
        return wanted

    def _kinds_of(
        self, space: AddressSpace, ranges: list[Range], posted: bool
    ) -> dict[Range, _Kind]:
        if self._own is None:
            return dict.fromkeys(_registrable(ranges), (posted, None))
        return {
            zone: (posted, queue)
            for part, queue in self._own.split(space, ranges)
            for zone in _registrable([part])
        }

    def _change(self, removed: list[Range], new: dict[Range, _Kind], port: bool) -> list[Range]:
        """Register zones, those of the VM's ring first; returns those that found no room."""
        refused: list[Range] = []
        queues = dict.fromkeys([None, *(queue for _, queue in new.values())])
        for queue in queues:
            added = [zone for zone, kind in new.items() if kind == (False, queue)]
            posted = [zone for zone, kind in new.items() if kind == (True, queue)]
            change = ZoneChange(removed, added, port, posted, queue.own if queue else None)
            if queue is not None:
                queue.posted |= bool(posted)
            if removed or added or posted:
                refused += (added + posted)[self._accel.change_coalesced(change) :]
            removed = []
        return refused

    def _warn_of_no_room(self, port: bool, refused: list[Range]) -> None:
        if port in self._warned:
            return
        self._warned.add(port)
        address, size = refused[0]
        more = f" and {len(refused) - 1:,} more ranges" if len(refused) > 1 else ""
        self._warn(
            f"warning: {'ports' if port else 'memory'}: the kernel has no room for more than "
            f"{len(self.zones[port]):,} coalesced zones: writes to {address:#x}+{size:#x}{more} "
            "exit"
        )


def _declared(space: AddressSpace, ranges_of: Callable[[Region], Ranges]) -> list[Range]:
    """The visible parts of ranges that regions declare, in ascending order."""
    return [
        (start, end - start)
        for flat in space.flat()
        if flat.mapping is not None and (ranges := ranges_of(flat.mapping.region))
        for start, end in _visible(flat, flat.mapping, ranges)
    ]


def _registrable(ranges: list[Range]) -> list[Range]:
    """The ranges in parts that the kernel takes; no access crosses a cut, which is at a page."""
    zones: list[Range] = []
    for start, size in ranges:
        end = start + size
        cuts = range((start // _LARGEST + 1) * _LARGEST, end, _LARGEST)
        if end < _TOP:
            zones += [(one, other - one) for one, other in pairwise([start, *cuts, end])]
    return zones


def _visible(flat: FlatRange, mapping: Mapping, ranges: Ranges) -> list[tuple[int, int]]:
    """[start, end) of the mapping's ranges within `flat`, overlapping ones as one.

    Merged, because unregistering a zone would take along another that contains it.
    """
    merged: list[tuple[int, int]] = []
    for offset, size in sorted(ranges):
        start = max(flat.start, mapping.base + offset)
        end = min(flat.end, mapping.base + offset + size)
        if start >= end:
            continue
        if merged and start < merged[-1][1]:
            start, last_end = merged.pop()
            end = max(end, last_end)
        merged.append((start, end))
    return merged
