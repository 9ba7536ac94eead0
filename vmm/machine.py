"""A machine: buses, devices, RAM, an accelerator that runs its guest, and the loop between."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.device import Device, StateValue
from coalesced.devices.bus.write_run import U32, U64
from coalesced.hv import guest
from coalesced.hv.abi import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO
from coalesced.hv.errors import DeviceError, PeerDied, ProtocolError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Event, Exit
from coalesced.vmm.accel.base import Accelerator, CarriesOut, GuestMemory, Processor
from coalesced.vmm.access import Accesses
from coalesced.vmm.coalescing import Coalescing
from coalesced.vmm.counters import Counters
from coalesced.vmm.dispatch import Dispatcher
from coalesced.vmm.dma import MemoryMaster
from coalesced.vmm.drain import Drain, Queue
from coalesced.vmm.interrupts import Interrupts
from coalesced.vmm.loop import Loop, Timer
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.network import Network
from coalesced.vmm.own_rings import OwnRings
from coalesced.vmm.tracing import Observer, Sink, Tracer
from coalesced.vmm.zone import AS_DECLARED, Choice

_ZEROS: Final = bytes(1 << 16)

_HELD: Final = (KVM_EXIT_MMIO, KVM_EXIT_IO, KVM_EXIT_HLT)

LAST_FLUSH: Final = 0.2
"""Seconds for delivering queued writes when a run is interrupted."""


class Machine:
    """Devices on two address spaces, run by an accelerator."""

    def __init__(
        self,
        accel: Accelerator,
        *,
        coalesce: bool = True,
        zones: Choice = AS_DECLARED,
        rings: str | None = None,
        staleness: float | None = None,
        trace: Sink | None = None,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`coalesce`: whether anything is queued; `zones`: what is, beside or instead of what
        devices declare. `rings`: "vm": queued writes go into the VM's ring; "device": those of each
        device into one of its own; None: as each region declares; with `kvm` and `direct` all go
        into the VM's ring. `staleness`: seconds after which a queued write reaches its device
        although the guest runs on, None: only at exits. `trace`: receives every access of the
        guest. `warn`: takes a line about something that goes wrong while the guest runs on.
        """
        self.accel = accel
        self.memory = AddressSpace("memory", 1 << 64, 0x00)
        self.ports = AddressSpace("ports", 0x10000, 0xFF)
        self.loop = Loop()
        self.counters = Counters()
        self.devices: list[Device] = []
        self.ram: list[GuestMemory] = []  # what is declared and shown now
        self._declared: list[GuestMemory] = []
        self.dma = MemoryMaster(self.ram, self.memory)
        self.network = Network(Host(self.loop, self.flush_for, warn))
        self.seconds = 0.0
        self._events: list[int] = []  # descriptors of ioeventfds
        self._stopping = False
        self._accesses = Accesses(self.memory, self.ports, self.counters)
        if trace is not None:
            self.observe(Tracer(trace, self.memory, self.ports))
        self._drain = Drain(accel.ring, self._accesses, self.counters, self.loop.run_timers)
        spaces = {False: self.memory, True: self.ports}
        self._own = OwnRings(accel, self._drain, self.loop, warn, rings)
        self.coalescing = Coalescing(accel, spaces, coalesce, self._drain, warn, zones, self._own)
        self._dispatcher = Dispatcher(
            accel, self._accesses, self._drain, self.coalescing, self.counters, self.loop, self._own
        )
        self._see: Callable[[Exit], object] | None = None
        self._hold: Callable[[], object] | None = None
        accel.attach(self)
        self._stale: Timer | None = None
        self.set_staleness(staleness)

    # --- set-up ---

    def add_ram(self, start: int, size: int, declared: bool = True) -> GuestMemory:
        """Zeroed guest RAM; `declared` RAM is part of the state, also while a chip hides it."""
        memory = self.accel.add_memory(start, size)
        if declared:
            self.ram.append(memory)
            self._declared.append(memory)
        return memory

    def add_ioeventfd(self, event: Ioeventfd, call: Callable[[int], None]) -> None:
        """Have writes that match make a call, without an exit or an entry: `call(count)`.

        They reach no region, and their value is not kept. What was queued before them is drained
        before the call; writes that follow each other closely come as one call with their count.
        Raises RequestError.
        """
        self.coalescing.leave_out(event.pio, event.address, event.length or 1)
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events.append(fd)
        self.accel.ioeventfd(event, fd)

        def signalled() -> None:
            count = os.eventfd_read(fd)
            self.flush()
            call(count)

        self.loop.add_reader(fd, signalled)

    def add_device(self, device: Device) -> None:
        """Count a device to the machine's state; the caller maps its regions afterwards."""
        self.devices.append(device)
        self.claim(device)

    def claim(self, device: Device) -> None:
        """Have all regions of a device, which are not mapped yet, share its own ring, if any."""
        self._own.claim(device)

    def observe(self, observer: Observer) -> None:
        """Show every access of the guest to an observer."""
        self._accesses.observers.append(observer)

    def ignore(self, observer: Observer) -> None:
        """Show accesses no more to an observer that sees them."""
        self._accesses.observers.remove(observer)

    def set_staleness(self, seconds: float | None) -> None:
        """Drain the queued writes at this interval from now on, in seconds; None: only at exits."""
        if self._stale is not None:
            self._stale.cancel()
        self._staleness = seconds if self.accel.ring is not None else None
        self._arm_stale()

    def take_interrupts(self, acknowledge: Callable[[], int]) -> Interrupts:
        """Prepare for a guest that is machine code; `acknowledge` gives an interrupt's vector.

        The accelerator is a `Processor`.
        """
        processor = cast(Processor, self.accel)
        self.dma.on_write = processor.note_written
        self._dispatcher.interrupts = Interrupts(processor, self.loop, acknowledge)
        return self._dispatcher.interrupts

    def show_exits(self, see: Callable[[Exit], object]) -> None:
        """Call `see` with each exit before it is handled; what was queued before it is drained."""
        self._see = see
        self._take_all_exits()

    def hold_exits(self, hold: Callable[[], object]) -> None:
        """Call `hold` before each MMIO, IO and HLT exit: the guest waits until it returns.

        What was queued before the exit is still in the ring.
        """
        self._hold = hold
        self._take_all_exits()

    def _take_all_exits(self) -> None:
        """Have none carried out before this machine sees it."""
        if isinstance(self.accel, CarriesOut):
            self.accel.exits = None

    @property
    def executes_code(self) -> bool:
        """Whether the guest is machine code."""
        return self._dispatcher.interrupts is not None

    # --- running ---

    def run(self, name: str, arguments: Mapping[str, object] | None = None) -> None:
        """Load a guest and run it until it halts; its queued writes have reached the devices.

        `seconds` is then the time from its first operation to the last drained write. Raises
        RequestError (no such guest, or the guest process has run one), GuestError (it raised),
        PeerDied (its process ended; what it had published has reached the devices), ProtocolError.
        """
        self.accel.load_guest(name, arguments or {})
        self.resume()

    def resume(self) -> None:
        """Run the loaded guest until it halts; errors as in `run`."""
        accel, loop = self.accel, self.loop
        handle = self._dispatcher.handle
        if self._see is not None or self._hold is not None:
            handle = self._handle_shown
        started = time.monotonic_ns()
        try:
            while True:
                got = accel.run(loop)
                if isinstance(got, tuple):
                    if not handle(got):
                        break
                elif got is Event.RING_FILLED:
                    self._drain.flush_posted()
                else:
                    if got is Event.READABLE:
                        loop.serve()
                    loop.run_timers()
                    if self._stopping:
                        accel.pause()
                        self.flush()
                        break
        except PeerDied:
            # The devices still get the entries that the guest had published.
            self.flush()
            raise
        except KeyboardInterrupt:
            # The same here, but after Ctrl-C the user does not wait for a ring full of blits.
            self._drain.flush_within(LAST_FLUSH)
            raise
        finally:
            self._stopping = False
            self._end_at_halt(False)
        if self._events:
            loop.serve()  # what was signalled just before
        self.seconds = (time.monotonic_ns() - (accel.first_operation() or started)) / 1e9

    def _handle_shown(self, exit_: Exit) -> bool:
        if self._hold is not None and exit_[0] in _HELD:
            self._hold()
        if self._see is not None:
            self._dispatcher.drain_before(exit_)
            self._see(exit_)
        return self._dispatcher.handle(exit_)

    def stop(self) -> None:
        """End `resume` as soon as the loop runs its timers; for a call of the loop.

        The next `resume` lets the guest continue.
        """
        self._stopping = True
        self.loop.call_at(time.monotonic(), lambda: None)  # a drain may be making this call
        self.stop_at_halt()

    def stop_at_halt(self) -> None:
        """End `resume` when the guest, which is machine code, halts next."""
        self._end_at_halt(True)

    def _end_at_halt(self, wanted: bool) -> None:
        if self._dispatcher.interrupts is not None:
            self._dispatcher.interrupts.stopped = wanted

    def flush(self) -> int:
        """Bring every queued write to its device; returns how many there were."""
        return self._drain.flush()

    def flush_for(self, device: object) -> int:
        """The same for those in the VM's ring, and in a device's own: what it depends on."""
        return self._drain.flush_some([self._drain.common, self._own.of_device(device)])

    @property
    def queues(self) -> list[Queue]:
        """The rings, with what came out of them: the VM's first."""
        return self._drain.queues

    @property
    def drained_now(self) -> Queue | None:
        """The ring whose writes are being carried out."""
        return self._drain.current

    def _flush_stale(self) -> None:
        try:
            if self.flush():
                self.counters.stale_drains += 1
        finally:
            self._arm_stale()

    def _arm_stale(self) -> None:
        if self._staleness is not None:
            due = time.monotonic() + self._staleness
            self._stale = self.loop.call_at(due, self._flush_stale)

    # --- accesses of a guest in this process (MachineBus) ---

    def read_one(self, port: bool, address: int, size: int) -> int:
        return self._accesses.read(self.ports if port else self.memory, address, size)

    def write_one(self, port: bool, address: int, size: int, value: int) -> None:
        self.counters.single_writes += 1
        self._accesses.write(self.ports if port else self.memory, address, size, value)

    def write_many(self, addresses: U64, sizes: U32, values: U64) -> None:
        self.counters.single_writes += len(addresses)
        columns = addresses, sizes, values
        for observer in self._accesses.observers:
            for write in zip(*(column.tolist() for column in columns), strict=True):
                observer.access("write", self.memory, *write)
        self._accesses.write_arrays(*columns)

    def timer_failed(self, call: Callable[[], None], error: BaseException) -> None:
        """Report a device that raised in a call of its timer; other timers still run."""
        if isinstance(error, PeerDied | ProtocolError):
            raise error  # by the guest's side, asked for something on behalf of the device
        name = getattr(call, "__qualname__", type(call).__name__)
        self.counters.count_failure(lambda: f"timer {name}: {guest.describe(error)}")

    # --- its state and output ---

    def state(self) -> str:
        """A hash of the declared RAM and of every device's state, after a flush.

        Raises DeviceError for a device whose `state` raises.
        """
        self.flush()
        digest = hashlib.blake2b(digest_size=16)
        for memory in sorted(self._declared, key=lambda m: m.start):
            digest.update(b"%x+%x:" % (memory.start, memory.size))
            for block in _written(memory.size, memory.read):
                digest.update(block)
        for device in self.devices:
            digest.update(device.name.encode())
            try:
                for part in _parts(device.state()):
                    digest.update(part)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise DeviceError(device.name, "state()", guest.describe(error)) from error
        return digest.hexdigest()

    def close(self, complete: bool = True) -> None:
        """End the guest and give everything back, RAM included; may be called twice.

        `complete`: the guest has run to its end; otherwise unfinished output files are removed.
        """
        self.accel.close()
        # The machine and its parts refer to each other: without this, RAM would stay mapped until
        # a garbage collection.
        self.ram.clear()
        self._declared.clear()
        self.network.close(complete)
        self.loop.close()
        while self._events:
            os.close(self._events.pop())

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(complete=kind is None)


def _written(size: int, read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """The blocks of a memory that hold anything: most of it is zero, and a hash is slow."""
    for offset in range(0, size, len(_ZEROS)):
        block = read(offset, min(len(_ZEROS), size - offset))
        if block != _ZEROS[: len(block)]:
            yield b"%x:" % offset
            yield block


def _parts(state: Mapping[str, StateValue]) -> Iterator[bytes | memoryview]:
    """A device's state as bytes; raises TypeError for what cannot be one."""
    if not isinstance(state, Mapping):
        raise TypeError(f"expected a dict, got {type(state).__name__}")
    for name in state:
        if not isinstance(name, str):
            raise TypeError(f"expected names as keys, got {name!r}")
    for name, value in sorted(state.items()):
        yield b"\0" + name.encode() + b"="
        if isinstance(value, int):
            yield b"%d" % value
        elif isinstance(value, bytes | bytearray | memoryview):
            yield b"%d:" % len(value)
            yield from _contents(memoryview(value))
        else:
            raise TypeError(
                f"{name!r} is {type(value).__name__}, expected int, bytes or memoryview"
            )


def _contents(data: memoryview) -> Iterator[bytes | memoryview]:
    if data.nbytes <= len(_ZEROS):
        yield data
        return
    flat = data.cast("B")
    yield from _written(data.nbytes, lambda start, size: bytes(flat[start : start + size]))
