"""Accelerator `direct`: the guest in this process, no ring and no exits, as QEMU's TCG does it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Mapping

from coalesced.devices.bus.device import Ram
from coalesced.hv import guest
from coalesced.hv.abi import KVM_EXIT_HLT
from coalesced.hv.client import ZoneChange
from coalesced.hv.errors import CoalescedError, GuestError, RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Exit
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.printable import printable_stream
from coalesced.hv.ring import Consumer
from coalesced.hv.vcpu import Bus, Vcpu
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.direct_bus import DirectBus
from coalesced.vmm.accel.handlers import GuestHandlers
from coalesced.vmm.loop import Loop

_HALTED: Exit = (KVM_EXIT_HLT, 0, 0, False, 0)
_in_use: list[DirectBus] = []  # by guests that run now


def _disown() -> None:
    for bus in _in_use:
        bus.disown()


os.register_at_fork(after_in_child=_disown)


class LocalMemory:
    """Guest RAM of this process alone."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self._bytes = bytearray(size)
        self.view = memoryview(self._bytes).toreadonly()

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return bytes(self._bytes[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self._bytes[offset : offset + len(data)] = data

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at offset {offset} of RAM of {self.size} bytes")


class DirectAccelerator:
    """Runs a guest by calling it: an access is a call of the device."""

    name = "direct"
    coalesced_mmio = False
    coalesced_pio = False
    posted = False
    pid: int | None = None
    ring: Consumer | None = None

    def __init__(self) -> None:
        self._memory: list[LocalMemory] = []
        self._guest: Callable[[Vcpu], object] | None = None
        self._bus: MachineBus | None = None
        self._first_operation = 0
        self._lines = 0
        self._handlers = GuestHandlers()
        self._index = 0  # of the vCPU that runs

    def add_memory(self, start: int, size: int) -> LocalMemory:
        memory = LocalMemory(start, size)
        self._memory.append(memory)
        return memory

    def show_memory(self, memory: Ram, shown: bool) -> None:
        assert isinstance(memory, LocalMemory)
        if shown:
            self._memory.append(memory)
        else:
            self._memory.remove(memory)

    def change_coalesced(self, change: ZoneChange) -> int:
        raise RuntimeError("direct has no ring")

    def create_ring(self) -> OwnRing | None:
        return None

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        raise RequestError(errno.ENOTTY, "--accel direct has no ioeventfds")

    def set_irq(self, line: int, level: bool) -> None:
        self._lines = self._lines | 1 << line if level else self._lines & ~(1 << line)

    def load_guest(self, name: str, arguments: Mapping[str, object]) -> None:
        try:
            with self._handlers.watched():
                function = guest.load(name)
        except guest.GuestNotFound as error:
            raise RequestError(2, str(error)).with_frames(guest.frames(error)) from error
        self._guest = lambda vcpu: function(vcpu, **arguments)

    def attach(self, bus: MachineBus) -> None:
        self._bus = bus

    def pause(self) -> None:
        """Nothing to do: while the machine's own code runs, the guest does not."""

    def run(self, loop: Loop) -> Exit:
        assert self._guest is not None
        assert self._bus is not None
        bus = DirectBus(self._bus, self._memory, lambda: self._lines, loop, self._handlers)
        error = self._call_guest(bus)
        self._first_operation = bus.first_operation
        if error is None:
            return _HALTED
        passed_on = isinstance(error, KeyboardInterrupt | CoalescedError)
        if passed_on and not isinstance(error, GuestError):
            raise error
        raise GuestError(guest.describe(error)).with_frames(guest.frames(error)) from error

    def _call_guest(self, bus: DirectBus) -> BaseException | None:
        """The guest's exception, if any. A fork of this process that returns from it ends here."""
        assert self._guest is not None
        process = os.getpid()
        error: BaseException | None = None
        vcpu = Vcpu(seen := self.guests_bus(bus), self._index)
        # Which costs every access a call more: not before the guest has a handler at all.
        self._handlers.when_any(lambda: vcpu.use(_OutsideHandlers(seen, self._handlers)))
        _in_use.append(bus)
        # As in the guest process: what a guest prints goes to stderr.
        with contextlib.redirect_stdout(printable_stream(sys.stderr)), self._handlers.watched():
            try:
                try:
                    self._handlers.closed = False
                    self._guest(vcpu)
                finally:
                    self._handlers.closed = True
            except BaseException as raised:
                error = raised
            if os.getpid() != process:
                guest.end_fork(error)
        self._handlers.retire()
        _in_use.remove(bus)
        return error

    def guests_bus(self, bus: DirectBus) -> Bus:
        """The bus as the guest sees it."""
        return bus

    def complete(self, value: int) -> None:
        raise RuntimeError("direct has no exits")

    def enter(self) -> None:
        raise RuntimeError("direct has no exits")

    def park(self) -> bool:
        return False

    def guest_error(self) -> Exception:
        raise RuntimeError("direct has no exits")

    def first_operation(self) -> int:
        return self._first_operation

    def signals(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to give back."""


class _OutsideHandlers:
    """A bus whose operations the guest's signal handlers do not enter."""

    def __init__(self, bus: Bus, handlers: GuestHandlers) -> None:
        self.load = handlers.outside(bus.load)
        self.store = handlers.outside(bus.store)
        self.in_ = handlers.outside(bus.in_)
        self.out = handlers.outside(bus.out)
        self.execute = handlers.outside(bus.execute)
        self.store_many = handlers.outside(bus.store_many)
        self.fill = handlers.outside(bus.fill)
        self.read_memory = handlers.outside(bus.read_memory)
        self.write_memory = handlers.outside(bus.write_memory)
        self.wait_interrupt = bus.wait_interrupt  # which lets them in while it waits
