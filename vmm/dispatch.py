"""From the ring and the exits to the devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from opcode import opmap

import numpy as np

from coalesced.devices.bus.address_space import SHORTEST_RUN, AddressSpace
from coalesced.devices.bus.region import U32, U64, Region
from coalesced.hv.abi import (
    KVM_EXIT_HLT,
    KVM_EXIT_INTR,
    KVM_EXIT_IO,
    KVM_EXIT_MMIO,
    KVM_EXIT_SYSTEM_EVENT,
    RING_PAGES_MAX,
    ring_slots,
)
from coalesced.hv.client import Exit
from coalesced.hv.errors import PeerDied, ProtocolError, one_line
from coalesced.hv.ring import Consumer
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.coalescing import Coalescing
from coalesced.vmm.counters import Counters
from coalesced.vmm.tracing import Tracer

TURN = 0.02  # seconds of a drain after which timers have theirs
_MEMORY, _MIXED = 1, 3  # kinds of hv.core.Consumer.summary

# By size: as many equal ones as any batch has. Their stride is 0, and so who takes a run sees at
# a glance that they are all the same.
_LONGEST = ring_slots(RING_PAGES_MAX)
_RESUME = opmap["RESUME"]  # where a function begins; Python calls signal handlers there, too
_UNIFORM = [np.broadcast_to(np.uint32(size), _LONGEST) for size in range(9)]


class DrainGivenUp(Exception):
    """The time for a drain is over."""


class Dispatcher:
    """Carries the guest's accesses out, in the guest's order."""

    def __init__(
        self,
        accel: Accelerator,
        memory: AddressSpace,
        ports: AddressSpace,
        coalescing: Coalescing,
        counters: Counters,
        tracer: Tracer | None = None,
        serve: Callable[[], None] = lambda: None,
    ) -> None:
        """`serve`: called from time to time during a drain that lasts, to do what is due."""
        self._accel = accel
        self._memory = memory
        self._ports = ports
        self._coalescing = coalescing
        self._kinds = coalescing.kinds
        self._counters = counters
        self._tracer = tracer
        self._ring = accel.ring
        self._shape = (0, 0)  # of `_batch`: its entries, and the size that they all have
        self._batch: tuple[U64, U32, U64]
        self._exits_at = counters.exits_at
        self._loads = counters.exits_at["load", False]
        self._port_loads = counters.exits_at["pio", True]
        self._complete = accel.complete
        self._enter = accel.enter
        self._pending: Callable[[], int] = self._ring.pending if self._ring else lambda: 0
        self._failed_in = {space: partial(self._failed, space) for space in (memory, ports)}
        coalescing.drain_with(self._drain)
        self._serve = serve
        self._turn_ends = math.inf  # of a batch under way; 0: it has just begun
        self._give_up_at = math.inf
        memory.between_runs = ports.between_runs = self._look_around

    # --- the ring ---

    def _drain(self) -> int:
        """Carry out what is in the ring now, in order; how many writes.

        What is appended meanwhile stays for the next time: whoever appends as fast as this drains
        must not keep the machine here.
        """
        ring = self._ring
        if ring is None:
            return 0
        drained = 0
        core = ring.core
        left = 1
        while left and (count := core.peek()):
            try:
                if count < SHORTEST_RUN:
                    self._dispatch_few(core.entries(count))
                else:
                    self._dispatch(ring, count)
            finally:
                # An entry that breaks the rules ends a batch, and the next look tells of it.
                left = core.commit(count)
                self._counters.coalesced += count
            drained += count
        return drained

    def _look_around(self) -> None:
        """Amid a batch: do what is due once in a turn, since one write may last long.

        A ring full of blits takes half a minute. Its order stays: a flush meanwhile is a no-op.
        """
        now = time.monotonic()
        if now < self._turn_ends:
            return
        if now >= self._give_up_at:
            raise DrainGivenUp
        if self._turn_ends:
            self._serve()
        self._turn_ends = time.monotonic() + TURN

    def flush_within(self, seconds: float) -> None:
        """Bring what is queued to the devices, or what of it that time suffices for."""
        self._give_up_at = time.monotonic() + seconds
        with suppress(DrainGivenUp):
            self._coalescing.flush()
        self._give_up_at = math.inf

    def _dispatch_few(self, entries: list[tuple[int, int, int, int]]) -> None:
        """Carry out a batch for which arrays would cost more than they save."""
        for address, size, pio, value in entries:
            self.write(self._ports if pio else self._memory, address, size, value)

    def _dispatch(self, ring: Consumer, count: int) -> None:
        """Carry out the batch of the last peek."""
        if self._tracer is not None:
            self._tracer.batch(ring.batch(count))
        self._turn_ends = 0.0
        size, kinds, span = ring.core.summary()
        shape = count, size
        if shape != self._shape:
            # Full rings come one behind the other, and three slices cost what 100 writes do.
            self._shape = shape
            sizes = _UNIFORM[size] if size else ring.sizes
            self._batch = ring.addresses[:count], sizes[:count], ring.values[:count]
        addresses, sizes, values = self._batch
        if kinds != _MIXED:
            space = self._memory if kinds == _MEMORY else self._ports
            failed = self._failed_in[space]
            space.write_batch(addresses, sizes, values, failed, span, ring.rebased)
            return
        pio = ring.pio[:count]
        edges = [0, *(np.flatnonzero(np.diff(pio)) + 1).tolist(), count]
        for start, stop in pairwise(edges):
            space = self._ports if pio[start] else self._memory
            space.write_batch(
                addresses[start:stop], sizes[start:stop], values[start:stop], self._failed_in[space]
            )

    def _failed(
        self, space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
    ) -> None:
        """A device raised: its access (value None: a read) is reported, and the others go on."""
        if isinstance(error, PeerDied | ProtocolError):
            raise error  # by the guest's side, asked for something on behalf of the device
        self._counters.count_failure(lambda: _failure(space, address, size, value, error))

    # --- exits ---

    def handle(self, exit_: Exit) -> bool:
        """Carry out an exit, after what was queued before it; False when the guest has halted.

        Raises GuestError when the guest crashed, ProtocolError for an exit that cannot be.
        """
        reason, address, size, is_write, value = exit_
        pending = self._pending  # the interpreter calls a name faster than an instance's attribute
        if pending():
            self._coalescing.flush()
        if reason == KVM_EXIT_MMIO:
            space, port = self._memory, False
        elif reason == KVM_EXIT_IO:
            space, port = self._ports, True
        else:
            return self._leave(reason)
        if is_write:
            kind = self._kinds.get((address, size, port)) or self._coalescing.kind_of(
                address, size, port
            )
            if port and kind != "ring_full":
                kind = "pio"
            self._exits_at[kind, port][address] += 1
            self._counters.single_writes += 1
            try:
                self.write(space, address, size, value)
            except KeyboardInterrupt as error:
                self._given_up(error, space, exit_, kind)
                raise
        else:
            exits = self._port_loads if port else self._loads
            exits[address] += 1
            complete = self._complete
            complete(self.read(space, address, size))
        # What is left to do before the next wait is done while the guest wakes up.
        enter = self._enter
        enter()
        return True

    def _given_up(
        self, error: KeyboardInterrupt, space: AddressSpace, exit_: Exit, kind: str
    ) -> None:
        """Ctrl-C came in a write: it is done once, now or when the guest is run again."""
        if has_begun(error, space.region_at(exit_[1])):
            self._enter()
            return
        self._exits_at[kind, space is self._ports][exit_[1]] -= 1
        self._counters.single_writes -= 1

    def _leave(self, reason: int) -> bool:
        """An exit that is no access; False when the guest has halted."""
        if reason == KVM_EXIT_HLT:
            self._counters.halts += 1
            return False
        if reason == KVM_EXIT_SYSTEM_EVENT:
            raise self._accel.guest_error()
        if reason != KVM_EXIT_INTR:
            raise ProtocolError(f"run page: exit_reason is {reason}, expected 2, 5, 6, 10 or 24")
        return True

    def read(self, space: AddressSpace, address: int, size: int) -> int:
        """One read of the guest; a device that raises reads as zero and is told of."""
        try:
            value = space.read(address, size)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(space, address, size, None, error)
            value = 0
        if self._tracer is not None:
            self._tracer.access("read", space, address, size, value)
        return value

    def write(self, space: AddressSpace, address: int, size: int, value: int) -> None:
        """One write of the guest; a device that raises is told of."""
        if self._tracer is not None:
            self._tracer.access("write", space, address, size, value)
        try:
            space.write(address, size, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(space, address, size, value, error)

    def write_many(self, addresses: U64, sizes: U32, values: U64) -> None:
        """Stores to memory by a guest in this process, as arrays."""
        space = self._memory
        if self._tracer is not None:
            for address, size, value in zip(
                addresses.tolist(), sizes.tolist(), values.tolist(), strict=True
            ):
                self._tracer.access("write", space, address, size, value)
        space.write_batch(addresses, sizes, values, self._failed_in[space])


def _failure(
    space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
) -> str:
    region = space.region_at(address)
    what = f"read of {size} bytes" if value is None else f"write of {size} bytes {value:#x}"
    where = region.name if region else "unassigned"
    return f"{space.name}: {what} at {address:#x} ({where}): {one_line(error)}"


def has_begun(error: BaseException, region: Region | None) -> bool:
    """Did a signal handler raise this in the region's `write`, or behind it, and not ahead of it?

    Of a `write` that is no Python function nobody can tell: then yes.
    """
    code = None if region is None else getattr(region.write, "__code__", None)
    if code is None:
        return True
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code is not code:
        at = at.tb_next
    return at is not None and code.co_code[at.tb_lasti] != _RESUME
