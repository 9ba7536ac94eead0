"""From the exits to the devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.region import Region
from coalesced.hv.abi import (
    KVM_EXIT_HLT,
    KVM_EXIT_INTR,
    KVM_EXIT_IO,
    KVM_EXIT_IRQ_WINDOW_OPEN,
    KVM_EXIT_MMIO,
    KVM_EXIT_SYSTEM_EVENT,
)
from coalesced.hv.errors import ProtocolError
from coalesced.hv.outcome import Exit
from coalesced.vmm.accel.base import Accelerator, CarriesOut
from coalesced.vmm.access import Accesses, has_begun
from coalesced.vmm.coalescing import Coalescing
from coalesced.vmm.counters import Counters
from coalesced.vmm.drain import Drain
from coalesced.vmm.exits import Exits
from coalesced.vmm.interrupts import Interrupts
from coalesced.vmm.loop import Loop
from coalesced.vmm.own_rings import OwnRings

if TYPE_CHECKING:
    from coalesced.vmm.exits import OwnQueue

REASONS = (
    ("load", False),
    ("pio", True),
    ("no_zone", False),
    ("straddle", False),
    ("ring_full", False),
    ("ring_full", True),
)
"""Reasons of exits for accesses, and whether they are to ports, in the order of exits.h."""


class Dispatcher:
    """Carries exits out, each after the writes that were queued before it.

    Where the accelerator's exits come through C, `Exits` carries out an access of one
    region, and `handle` the rest, by the same rules.
    """

    def __init__(
        self,
        accel: Accelerator,
        accesses: Accesses,
        drain: Drain,
        coalescing: Coalescing,
        counters: Counters,
        loop: Loop,
        own: OwnRings,
    ) -> None:
        self._accesses = accesses
        self._drain = drain
        self._own_rings = drain.own  # none: there is no more to drain than the VM's
        self._own = own
        self._accel = accel
        self._read = accesses.read
        self._write = accesses.write
        self._memory = accesses.memory
        self._ports = accesses.ports
        self._coalescing = coalescing
        self._kinds = coalescing.kinds
        self._counters = counters
        self._tallies = counters.tallies
        self._loads = counters.tallies["load", False]
        self._port_loads = counters.tallies["pio", True]
        self._complete = accel.complete
        self._enter = accel.enter
        self._flush = drain.flush_common
        self.interrupts: Interrupts | None = None  # of a guest that is machine code
        self._pending: Callable[[], int] = accel.ring.pending if accel.ring else lambda: 0
        if isinstance(accel, CarriesOut):
            accel.exits = self._exits(loop)

    def _exits(self, loop: Loop) -> Exits:
        """The carrier of exits in C, kept up to date with own rings, zones and descriptors."""
        tallies = tuple(self._tallies[reason] for reason in REASONS)
        counters, observers = self._counters, self._accesses.observers
        routes, made = self._accesses.routes, self._accesses.map_all
        exits = Exits(routes, counters, tallies, observers, loop.timers, self._flush, self.raised)
        counters.settle = exits.settle
        counters.waiting = lambda: dict(zip(REASONS, exits.waiting(), strict=True))
        self._accesses.own_queue = self._own_queue
        self._own.made = made
        made()
        edges = self._coalescing.edges

        def zones_changed(port: bool) -> None:
            routes.zones(port, edges[port])
            exits.stop()

        self._coalescing.changed = zones_changed
        loop.changed = exits.stop
        return exits

    def _own_queue(self, region: Region) -> OwnQueue:
        queue = self._own.of_region(region)
        if queue is None:
            return None, None
        return queue.ring.pending, partial(self._drain.flush_some, (queue,))

    def raised(self, exit_: Exit, error: BaseException) -> None:
        """Report an access whose handler raised; raises what ends the run."""
        reason, address, size, is_write, value = exit_
        port = reason == KVM_EXIT_IO
        space = self._ports if port else self._memory
        if not isinstance(error, KeyboardInterrupt):
            self._accesses.failed(space, address, size, value if is_write else None, error)
            return
        if is_write:
            self._interrupted(error, space, exit_, self._kind(address, size, port))
        raise error

    def _kind(self, address: int, size: int, port: bool) -> str:
        """The reason for a write's exit."""
        kind = self._kinds.get((address, size, port)) or self._coalescing.kind_of(
            address, size, port
        )
        return "pio" if port and kind != "ring_full" else kind

    def handle(self, exit_: Exit) -> bool:
        """Carry out an exit after the queued writes; False when the guest has halted.

        An access is carried out after the writes in the VM's ring, then those in the own rings of
        the devices that it goes to; a halt, or the guest's end, after all writes.

        Raises GuestError when the guest crashed, ProtocolError for an exit that cannot be.
        """
        reason, address, size, is_write, value = exit_
        pending = self._pending  # the interpreter calls a name faster than an instance's attribute
        if pending():
            self._flush()
        if reason == KVM_EXIT_MMIO:
            space, port = self._memory, False
        elif reason == KVM_EXIT_IO:
            space, port = self._ports, True
        else:
            if self._own_rings:
                self._flush_own(exit_)
            return self._leave(reason, value)
        if self._own_rings:
            self._flush_own(exit_)
        if is_write:
            kind = self._kind(address, size, port)
            self._tallies[kind, port][address] += 1
            self._counters.single_writes += 1
            write = self._write
            try:
                write(space, address, size, value)
            except KeyboardInterrupt as error:
                self._interrupted(error, space, exit_, kind)
                raise
        else:
            exits = self._port_loads if port else self._loads
            exits[address] += 1
            read, complete = self._read, self._complete
            complete(read(space, address, size))
        # The guest wakes up while this process finishes its work before the next wait.
        enter = self._enter
        enter()
        return True

    def drain_before(self, exit_: Exit) -> None:
        """Bring the writes to their devices that `handle` carries the exit out after."""
        self._flush()
        if self._own_rings:
            self._flush_own(exit_)

    def _flush_own(self, exit_: Exit) -> None:
        """Drain the own rings that an exit concerns, after the VM's, whose writes may change where
        an access goes."""
        reason, address, size, _, _ = exit_
        if reason in (KVM_EXIT_MMIO, KVM_EXIT_IO):
            space = self._ports if reason == KVM_EXIT_IO else self._memory
            self._drain.flush_some(self._own.at(space, address, size))
        elif reason not in (KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN):
            self._drain.flush()

    def _interrupted(
        self, error: KeyboardInterrupt, space: AddressSpace, exit_: Exit, kind: str
    ) -> None:
        """Ctrl-C came during a write, which must be done once: now, or in the next run."""
        if has_begun(error, space.region_at(exit_[1])):
            self._enter()
            return
        self._tallies[kind, space is self._ports][exit_[1]] -= 1
        self._counters.single_writes -= 1

    def _leave(self, reason: int, interruptible: int) -> bool:
        """Handle an exit that is no access; False when the guest has halted, on all vCPUs.

        `interruptible`: of a HLT, whether an interrupt can end it.
        """
        if reason == KVM_EXIT_HLT:
            self._counters.halts += 1
            if self.interrupts is None:
                return self._accel.park()
            return self.interrupts.halted(bool(interruptible))
        if reason == KVM_EXIT_IRQ_WINDOW_OPEN and self.interrupts is not None:
            self.interrupts.window_open()
            return True
        if reason == KVM_EXIT_SYSTEM_EVENT:
            raise self._accel.guest_error()
        if reason != KVM_EXIT_INTR:
            raise ProtocolError(f"run page: exit_reason is {reason}, expected 2, 5, 6, 10 or 24")
        return True
