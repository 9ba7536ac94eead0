"""The kernel's coalesced zones, their rings and ioeventfds, and the requests that change them."""

from __future__ import annotations

import array
import errno
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coalesced.hv import abi, core
from coalesced.hv.errors import RequestError
from coalesced.hv.ioeventfds import Ioeventfd, Ioeventfds
from coalesced.hv.own_rings import OwnRings
from coalesced.hv.zones import Zones

Reply = tuple[int, bytes, tuple[int, ...]]
"""Result, payload and descriptors."""
Handler = Callable[[bytes, tuple[int, ...]], Reply]


def unpacked(layout: Any, argument: bytes) -> tuple[Any, ...]:
    """The values of a request's argument. Raises RequestError when its size is another one."""
    if len(argument) != layout.size:
        raise RequestError(
            errno.EINVAL, f"expected an argument of {layout.size} bytes, got {len(argument)}"
        )
    values: tuple[Any, ...] = layout.unpack(argument)
    return values


class Registered:
    """Zones and ioeventfds that the VMM has registered for a VM's vCPUs."""

    def __init__(self, vcpus: Sequence[core.Vcpu]) -> None:
        """`vcpus`: those that there are; more may come."""
        self.has_ring = False
        self.handlers: Mapping[int, Handler] = {
            abi.KVM_REGISTER_COALESCED_MMIO: self._register_coalesced_mmio,
            abi.KVM_UNREGISTER_COALESCED_MMIO: self._unregister_coalesced_mmio,
            abi.HV_CHANGE_ZONES: self._change_zones,
            abi.KVM_CREATE_COALESCED_MMIO_BUFFER: self._create_buffer,
            abi.HV_CLOSE_COALESCED_MMIO_BUFFER: self._close_buffer,
            abi.KVM_REGISTER_COALESCED_MMIO2: self._register_coalesced_mmio2,
            abi.KVM_UNREGISTER_COALESCED_MMIO2: self._unregister_coalesced_mmio2,
            abi.KVM_IOEVENTFD: self._ioeventfd,
        }
        self.own = OwnRings()
        self._vcpus = vcpus
        self._zones = (Zones(), Zones())  # MMIO, PIO
        self._events = Ioeventfds(self._zones)

    def _register_coalesced_mmio(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        addr, size, pio = unpacked(abi.KVM_COALESCED_MMIO_ZONE, argument)
        self._zones_of(pio).register(addr, size)
        self.push()
        return 0, b"", ()

    def _unregister_coalesced_mmio(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        addr, size, pio = unpacked(abi.KVM_COALESCED_MMIO_ZONE, argument)
        self._zones_of(pio).unregister(addr, size)
        self.push()
        return 0, b"", ()

    def _register_coalesced_mmio2(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        addr, size, pio, buffer = unpacked(abi.KVM_COALESCED_MMIO_ZONE2, argument)
        self.own.check(buffer)
        self._zones_of(pio).register(addr, size, buffer=buffer)
        self.push()
        return 0, b"", ()

    def _unregister_coalesced_mmio2(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        addr, size, pio, _ = unpacked(abi.KVM_COALESCED_MMIO_ZONE2, argument)
        self._zones_of(pio).unregister(addr, size)
        self.push()
        return 0, b"", ()

    def _create_buffer(self, argument: bytes, fds: tuple[int, ...]) -> Reply:
        pages, wake_at = unpacked(abi.HV_BUFFER, argument)
        self._check_ring()
        if len(fds) != 1:
            raise RequestError(errno.EINVAL, "buffer: expected one descriptor")
        number, segment = self.own.create(pages, wake_at, fds[0])
        try:
            self.push()
        except BaseException:
            os.close(segment)
            os.close(self.own.give_up(number))
            raise
        return number, b"", (segment,)

    def _close_buffer(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        (number,) = unpacked(abi.HV_REQUEST, argument)
        self.own.check(number)
        for zones in self._zones:
            zones.give_up(number)
        self._push_then_close(self.own.give_up(number))
        return 0, b"", ()

    def _change_zones(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        layout = abi.KVM_COALESCED_MMIO_ZONE
        head, batch = abi.HV_REQUEST.size, argument[abi.HV_REQUEST.size :]
        if len(argument) < head or len(batch) % layout.size:
            raise RequestError(
                errno.EINVAL,
                f"zones: expected {head} bytes and {layout.size} a zone, got {len(argument)}",
            )
        (removed,) = abi.HV_REQUEST.unpack_from(argument)
        registered = 0
        try:
            for number, (addr, size, pio) in enumerate(layout.iter_unpack(batch)):
                if number < removed:
                    self._zones_of(pio).unregister(addr, size)
                else:
                    self._register(addr, size, pio)
                    registered += 1
        except RequestError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            self.push()
        return registered, b"", ()

    def _register(self, addr: int, size: int, packed: int) -> None:
        """Add a zone of a batch, in whose `pio` its kind is packed."""
        buffer = packed >> abi.HV_ZONE_BUFFER_SHIFT
        pio = packed & ((1 << abi.HV_ZONE_BUFFER_SHIFT) - 1)
        if buffer:
            self.own.check(buffer)
        posted = bool(pio & abi.HV_ZONE_POSTED)
        self._zones_of(pio & ~abi.HV_ZONE_POSTED).register(addr, size, posted, buffer)

    def _ioeventfd(self, argument: bytes, fds: tuple[int, ...]) -> Reply:
        event, assign = Ioeventfd.unpack(argument)
        if len(fds) != int(assign):
            raise RequestError(errno.EINVAL, f"{event}: expected a descriptor to add it")
        if assign:
            self._events.add(event, fds[0])
            self.push()
        else:
            self._push_then_close(self._events.remove(event))
        return 0, b"", ()

    def _push_then_close(self, fd: int) -> None:
        """Tell the vCPUs of a change, then close a descriptor that they wrote until now."""
        self.push()
        os.close(fd)

    def _check_ring(self) -> None:
        if not self.has_ring:
            raise RequestError(errno.ENXIO, "coalesced I/O is not supported")

    def _zones_of(self, pio: int) -> Zones:
        self._check_ring()
        if pio not in (0, 1):
            raise RequestError(errno.EINVAL, f"coalesced zone: pio is {pio}, expected 0 or 1")
        return self._zones[pio]

    def push(self) -> None:
        """Have every vCPU use the zones and events that are registered now."""
        if not self._vcpus:
            return
        rings, places = self.own.rings()
        for vcpu in self._vcpus:
            vcpu.set_rings(rings)
        for pio, zones in enumerate(self._zones):
            pairs = zones.outermost()
            ends = array.array("Q", itertools.chain.from_iterable(pairs))
            kinds = [zones.kind_of(*pair) for pair in pairs]
            posted = bytes(kind.posted for kind in kinds)
            numbers = bytes(places[kind.buffer] if kind.buffer else 0 for kind in kinds)
            events = self._events.packed(bool(pio))
            for vcpu in self._vcpus:
                vcpu.set_zones(pio, ends, posted, numbers)
                vcpu.set_events(pio, events)
