"""The interface of an accelerator to its machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from coalesced.devices.bus.device import Ram
from coalesced.devices.bus.region import U32, U64
from coalesced.hv.client import ZoneChange
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Outcome
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.ring import Consumer
from coalesced.vmm.exits import Exits
from coalesced.vmm.loop import Loop

GuestMemory = Ram
"""RAM of the machine, as devices and the machine itself reach it."""


class MachineBus(Protocol):
    """The machine's side of the guest's accesses."""

    def read_one(self, port: bool, address: int, size: int) -> int: ...
    def write_one(self, port: bool, address: int, size: int, value: int) -> None: ...
    def write_many(self, addresses: U64, sizes: U32, values: U64) -> None: ...


class Accelerator(Protocol):
    """Runs a guest and hands its device accesses to the machine."""

    name: str
    coalesced_mmio: bool  # writes to memory zones can be queued
    coalesced_pio: bool  # the same for ports
    posted: bool  # a queued write can wake this process
    ring: Consumer | None
    pid: int | None  # the guest's own process, if it has one

    def add_memory(self, start: int, size: int) -> GuestMemory:
        """Zeroed guest RAM; both are multiples of 4096. Raises HostError without room."""

    def show_memory(self, memory: GuestMemory, shown: bool) -> None:
        """Take RAM of `add_memory` out of the guest's reach, or put it back with its contents.

        The guest is stopped. Raises HostError without room.
        """

    def change_coalesced(self, change: ZoneChange) -> int:
        """Stop queuing writes inside the removed ranges, then queue those inside the added ones.

        Writes to posted ranges end a `run` with RING_FILLED, where `posted` of the accelerator
        says so. Returns how many, from the first added to the last posted, the kernel has taken: it
        may have no room for more. Raises RequestError for any other refusal.
        """

    def create_ring(self) -> OwnRing | None:
        """A ring for zones to name, with as many pages as the VM's. Raises RequestError.

        None: zones name no rings here.
        """

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        """Have writes that match signal `fd`, a non-blocking eventfd, or no longer.

        Raises RequestError.
        """

    def set_irq(self, line: int, level: bool) -> None:
        """Raise or lower an interrupt line of the guest, 0 to 63."""

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        """Load `module:function` or `FILE.py:function`.

        Raises RequestError: ENOENT, and EBUSY where a guest process has begun with another one.
        """

    def pause(self) -> None:
        """Stop the guest before its next access; the next `run` lets it continue."""

    def attach(self, bus: MachineBus) -> None:
        """Set the bus for accesses that never leave this process."""

    def run(self, loop: Loop) -> Outcome:
        """Let the guest run until its next exit.

        TIMED_OUT: a timer of the loop is due; READABLE: a descriptor of it is ready; a guest that
        exits all the time delays neither. RING_FILLED: the ring should be drained meanwhile. An
        exit that neither `complete` nor `enter` has dealt with is returned again: an exception of a
        signal handler may have taken its place. Raises PeerDied, ProtocolError.
        """

    def complete(self, value: int) -> None:
        """The result of the load that exited."""

    def enter(self) -> None:
        """Let the guest continue at once after its exit was handled, before the next `run`."""

    def park(self) -> bool:
        """Take note that the vCPU that exited has halted; False: no other one is left to run.

        One that has halted is not entered again before all have.
        """

    def guest_error(self) -> Exception:
        """The guest's exception, after a crash event."""

    def first_operation(self) -> int:
        """CLOCK_MONOTONIC nanoseconds of the guest's first operation, 0 before it."""

    def signals(self) -> int:
        """Pipe writes of both sides so far; the guest is stopped."""

    def close(self) -> None:
        """Give everything back; may be called twice."""


@runtime_checkable
class CarriesOut(Protocol):
    """An accelerator whose `run` lets C carry out the exits that it can."""

    exits: Exits | None


class Processor(Accelerator, Protocol):
    """An accelerator whose guest is machine code, executed from the reset vector on."""

    def add_rom(self, start: int, contents: bytes) -> GuestMemory:
        """ROM of whole pages: the guest reads and executes it, its writes go to devices."""

    def interrupt_window(self, wanted: bool) -> None:
        """Have the guest exit with KVM_EXIT_IRQ_WINDOW_OPEN as soon as it takes interrupts."""

    def interrupt(self, vector: int) -> None:
        """The interrupt that the guest takes when it is entered; it is stopped, and ready to."""

    def reset(self) -> None:
        """Reset the guest's processor; it is stopped."""

    def is_resetting(self) -> bool:
        """Whether the processor begins anew when it is entered next."""

    def note_written(self, address: int, size: int) -> None:
        """A device has written to RAM: code that the guest has executed there is another now."""

    def check_alive(self) -> None:
        """Raises PeerDied when the guest's process has ended."""
