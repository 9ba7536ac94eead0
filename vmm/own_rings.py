"""Rings of devices' own: which device has one, and which writes go there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.device import Device
from coalesced.devices.bus.region import Region
from coalesced.hv.client import Range
from coalesced.hv.errors import RequestError
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.drain import Drain, Queue
from coalesced.vmm.loop import Loop

DEVICE: Final = "device"
VM: Final = "vm"
RINGS: Final = (VM, DEVICE)
"""Where queued writes go: all into the VM's ring, or those of each device into one of its own."""


class OwnRings:
    """The rings of a machine's devices, each made when its first zone is registered.

    All regions of a device share one ring: its attributes that are regions, and what it has on its
    buses. A region that belongs to no device of the machine counts as a device.
    """

    def __init__(
        self,
        accel: Accelerator,
        drain: Drain,
        loop: Loop,
        warn: Callable[[str], None],
        rings: str | None = None,
    ) -> None:
        """`rings`: one of RINGS; None: as each region declares. Raises ValueError."""
        if rings not in (None, *RINGS):
            raise ValueError(f"rings: expected one of {', '.join(RINGS)}, got {rings!r}")
        self._accel = accel
        self._drain = drain
        self._loop = loop
        self._warn = warn
        self._every = rings == DEVICE
        self._possible = rings != VM
        self._owners: dict[Region, object] = {}
        self._queues: dict[int, Queue | None] = {}  # by id() of the owner; None: it got none
        self.made: Callable[[], None] = lambda: None
        """Called when a device got a ring, or was refused one."""

    def claim(self, device: Device) -> None:
        """Take note of a device's regions, which are not mapped yet."""
        self._owners |= dict.fromkeys(_regions(device), device)

    def _is_own(self, region: Region) -> bool:
        return self._possible and (self._every or region.ring == "own")

    def split(
        self, space: AddressSpace, ranges: list[Range]
    ) -> Iterator[tuple[Range, Queue | None]]:
        """The ranges in parts, each with the ring that its writes go to; None: the VM's."""
        for start, size in ranges:
            if not self._possible:
                yield (start, size), None
                continue
            at, end = start, start + size
            while at < end:
                queue, stop = self._stretch(space, at, end)
                yield (at, stop - at), queue
                at = stop

    def _stretch(self, space: AddressSpace, at: int, end: int) -> tuple[Queue | None, int]:
        """The ring that writes from `at` on go to, and where it ends to do so."""
        queue = self._queue_at(space, at)
        stop = space.find(at).end
        while stop < end and self._queue_at(space, stop) is queue:
            stop = space.find(stop).end
        return queue, min(stop, end)

    def _queue_at(self, space: AddressSpace, address: int) -> Queue | None:
        region = space.region_at(address)
        if region is None or not self._is_own(region):
            return None
        owner = self._owners.setdefault(region, region)
        if id(owner) not in self._queues:
            self._queues[id(owner)] = self._make(str(getattr(owner, "name", region.name)))
            self.made()
        return self._queues[id(owner)]

    def _make(self, device: str) -> Queue | None:
        try:
            own = self._accel.create_ring()
        except RequestError as error:
            self._warn(f"warning: {device} has no ring of its own: {error}; it uses the VM's")
            return None
        if own is None:
            return None
        same = sum(queue.device == device for queue in self._drain.own)
        queue = Queue(own.ring, f"{device} ({same + 1})" if same else device, own, device)
        self._drain.own.append(queue)
        self._loop.add_reader(own.fd, partial(self._drain.flush_reported, queue))
        return queue

    # --- whom an access concerns ---

    def of_region(self, region: Region) -> Queue | None:
        """The own ring of a region's device, if it has one."""
        return self._queues.get(id(self._owners.get(region, region)))

    def of_device(self, device: object) -> Queue | None:
        """A device's own ring, if it has one."""
        return self._queues.get(id(device))

    def at(self, space: AddressSpace, address: int, size: int) -> Iterator[Queue]:
        """The own rings of the devices that an access goes to: one, or several at edges."""
        queues: dict[Queue | None, None] = {}
        end = min(address + size, space.limit)
        while address < end:
            stretch = space.find(address)
            if stretch.mapping is not None:
                queues[self.of_region(stretch.mapping.region)] = None
            address = stretch.end
        return (queue for queue in queues if queue is not None)


def _regions(device: Device) -> Iterator[Region]:
    """The regions that a device has on its buses, and those that are its attributes."""
    yield from (
        value for value in getattr(device, "__dict__", {}).values() if isinstance(value, Region)
    )
    for bar in getattr(device, "bars", {}).values():
        yield bar.region
    for name in ("legacy_memory", "legacy_ports"):
        for _, region, _ in getattr(device, name, ()):
            yield region
