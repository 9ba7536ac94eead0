"""An accelerator that plays a script, and devices that write down what reaches them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

from coalesced.devices.bus.device import Ram, StateValue
from coalesced.devices.bus.region import Region
from coalesced.hv import core
from coalesced.hv.abi import (
    KVM_EXIT_HLT,
    KVM_EXIT_INTR,
    KVM_EXIT_IO,
    KVM_EXIT_MMIO,
    KVM_EXIT_SYSTEM_EVENT,
    PAGE_SIZE,
)
from coalesced.hv.client import ZoneChange
from coalesced.hv.errors import GuestError, RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Event, Exit, Outcome
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.ring import Consumer, Producer
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.direct import LocalMemory
from coalesced.vmm.loop import Loop
from helpers.own_ring import Own
from helpers.ring_memory import put_slot

HALT: Exit = (KVM_EXIT_HLT, 0, 0, False, 0)
ENTRIES_OF_OWN = 20  # of a ring of a device's own
KICKED: Exit = (KVM_EXIT_INTR, 0, 0, False, 0)
CRASH: Exit = (KVM_EXIT_SYSTEM_EVENT, 0, 0, False, 0)


class Queued(NamedTuple):
    """A write that goes through the ring."""

    address: int
    size: int
    value: int
    port: bool = False


def load(address: int, size: int = 1) -> Exit:
    """The exit of a load."""
    return KVM_EXIT_MMIO, address, size, False, 0


def store(address: int, value: int, size: int = 1) -> Exit:
    """The exit of a store."""
    return KVM_EXIT_MMIO, address, size, True, value


def in_(port: int, size: int = 1) -> Exit:
    """The exit of an in."""
    return KVM_EXIT_IO, port, size, False, 0


def out(port: int, value: int, size: int = 1) -> Exit:
    """The exit of an out."""
    return KVM_EXIT_IO, port, size, True, value


Step = Queued | Outcome | Exception | Callable[[], object]


class FakeRing:
    """Both ends of a real ring in one process."""

    def __init__(self, pages: int = 1) -> None:
        fd = os.memfd_create("ring")
        try:
            os.ftruncate(fd, pages * PAGE_SIZE)
            self.mapping = core.Mapping([("ring", fd, pages * PAGE_SIZE)])
        finally:
            os.close(fd)
        self.producer = Producer(self.mapping, 0, pages * PAGE_SIZE)
        self.consumer = Consumer(self.mapping, 0, pages * PAGE_SIZE)

    def put(self, write: Queued) -> None:
        """Append and publish a write, wrong ones, too; the ring must have room."""
        address, size, value, port = write
        slot = int.from_bytes(self.mapping.read(4, 4), "little")
        assert self.producer.append(0, size, value, port)
        put_slot(self.mapping, slot, (address, size, port, value))
        self.producer.publish()


class FakeOwnRing:
    """A ring of a device's own whose writer is the test."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._own = Own(ENTRIES_OF_OWN)
        self._producer = Producer(self._own.mapping, PAGE_SIZE, self._own.size)
        self.ring = self._own.ring
        self.fd = self._own.fd

    def put(self, *writes: Queued) -> bool:
        """Queue writes, and write the descriptor of a ring that is half full or more.

        False: there was no room for one, and the rest is not queued.
        """
        for write in writes:
            if not self._producer.append(write.address, write.size, write.value, write.port):
                return False
            self._producer.publish()
            if self.ring.pending() >= self._own.wake_at:
                os.eventfd_write(self.fd, 1)
        return True

    def close(self) -> None:
        self._own.close()


class FakeAccelerator:
    """Plays a script of queued writes, exits and whatever else happens to a VMM.

    A `Queued` goes into the ring and the guest runs on; `run` returns an exit or an
    `Event`; an exception is raised; a callable is called and the guest runs on.
    """

    name = "fake"
    pid: int | None = None

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        ring: bool = True,
        mmio: bool = True,
        pio: bool = True,
    ) -> None:
        self.script = iter(script)
        self.queue = FakeRing() if ring else None
        self.ring = self.queue.consumer if self.queue else None
        self.coalesced_mmio = ring and mmio
        self.coalesced_pio = ring and pio
        self.posted = self.own_rings = ring
        self.own: list[FakeOwnRing] = []
        self.own_room: int | None = None  # how many more rings the kernel makes; None: any number
        self.log: list[tuple[object, ...]] = []  # zones and pauses, in order
        self.completed: list[int] = []
        self.memory: list[LocalMemory] = []
        self.room: int | None = None  # how many more zones the kernel takes; None: any number

    # --- the guest ---

    def put(self, *writes: Queued) -> None:
        """Queue writes now."""
        assert self.queue is not None
        for write in writes:
            self.queue.put(write)

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        self.log.append(("guest", guest, dict(arguments)))

    def run(self, loop: Loop) -> Outcome:
        if loop.timeout() == 0:
            return Event.TIMED_OUT
        for step in self.script:
            if isinstance(step, Queued):
                self.put(step)
            elif isinstance(step, Exception):
                raise step
            elif callable(step):
                step()
            else:
                return step
        return HALT

    # --- the rest of an accelerator ---

    def add_memory(self, start: int, size: int) -> LocalMemory:
        self.memory.append(LocalMemory(start, size))
        return self.memory[-1]

    def show_memory(self, memory: Ram, shown: bool) -> None:
        self.log.append(("show" if shown else "hide", memory.start, memory.size))

    def change_coalesced(self, change: ZoneChange) -> int:
        removed, added, port, posted, buffer = change
        self.log += [("unregister", address, size, port) for address, size in removed]
        ring = () if buffer is None else (buffer.number,)
        new: list[tuple[object, ...]] = [("register", *zone, port, *ring) for zone in added]
        new += [("post", *zone, port, *ring) for zone in posted]
        if self.room is not None:
            new = new[: self.room + len(removed)]
            self.room += len(removed) - len(new)
        self.log += new
        return len(new)

    def create_ring(self) -> OwnRing | None:
        if not self.own_rings:
            return None
        if self.own_room is not None and len(self.own) == self.own_room:
            raise RequestError(errno.ENOSPC, "no more buffers")
        self.own.append(FakeOwnRing(len(self.own) + 1))
        return cast(OwnRing, self.own[-1])

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        self.log.append(("event" if assign else "no event", event, fd))

    def set_irq(self, line: int, level: bool) -> None:
        self.log.append(("irq", line, level))

    def pause(self) -> None:
        self.log.append(("pause",))

    def attach(self, bus: MachineBus) -> None:
        """The script needs no bus."""

    def complete(self, value: int) -> None:
        self.completed.append(value)

    def enter(self) -> None:
        """The script goes on by itself."""

    def park(self) -> bool:
        return False

    def guest_error(self) -> Exception:
        return GuestError("guest.py:1: it crashed")

    def first_operation(self) -> int:
        return 0

    def signals(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to give back."""


Seen = tuple[str, int, int, int]  # read or write, offset, size, value


class Recorder:
    """A device of `size` bytes of memory that writes down each access.

    `on_write(offset, value)` runs before a write takes effect. All recorders of a test may share
    one log; what they write there has their name in front.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        coalesced: tuple[tuple[int, int], ...] = (),
        posted: tuple[tuple[int, int], ...] = (),
        on_write: Callable[[int, int], object] | None = None,
        log: list[tuple[str, Seen]] | None = None,
        memory: bool = True,
    ) -> None:
        """`memory` False: nobody will access it, and it may have any size."""
        self.name = name
        self.bytes = bytearray(size if memory else 0)
        self.log: list[tuple[str, Seen]] = [] if log is None else log
        self.on_write = on_write
        self.region = Region(name, size, self.read, self.write, coalesced=coalesced, posted=posted)

    @property
    def seen(self) -> list[Seen]:
        """The accesses of this device alone."""
        return [access for name, access in self.log if name == self.name]

    def read(self, offset: int, size: int) -> int:
        value = int.from_bytes(self.bytes[offset : offset + size], "little")
        self.log.append((self.name, ("read", offset, size, value)))
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        if self.on_write is not None:
            self.on_write(offset, value)
        self.log.append((self.name, ("write", offset, size, value)))
        self.bytes[offset : offset + size] = value.to_bytes(size, "little")

    def reset(self) -> None:
        self.bytes[:] = bytes(len(self.bytes))

    def state(self) -> Mapping[str, StateValue]:
        return {"bytes": memoryview(self.bytes)}
