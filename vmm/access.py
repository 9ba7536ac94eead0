"""Carrying accesses of the guest out on the machine's devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from opcode import opmap
from typing import TYPE_CHECKING

import numpy as np

from coalesced.devices.bus.address_space import AddressSpace, whole_number
from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import U32, U64, WriteRun
from coalesced.hv import guest
from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.vmm.counters import Counters
from coalesced.vmm.exits import Routes
from coalesced.vmm.tracing import Observer

if TYPE_CHECKING:
    from coalesced.vmm.exits import Entries, Flat, OwnQueue

_AT_ONCE = 1 << 15  # writes that are given as arrays
_RESUME = opmap["RESUME"]  # where a function begins; Python calls signal handlers there, too

RunOf = Callable[[int, int, int, int, tuple[int, int]], WriteRun]
"""Makes writes [start, stop) of a batch a run. Further arguments: the base of its addresses, the
size and the span of `WriteRun`; the span counts from the base."""


class DrainGivenUp(Exception):
    """The time for a drain is over."""


class Accesses:
    """Reads and writes on both address spaces.

    An access whose device raises is reported in the counters and the guest runs on: a read is
    answered with 0.
    """

    def __init__(
        self,
        memory: AddressSpace,
        ports: AddressSpace,
        counters: Counters,
    ) -> None:
        self.memory = memory
        self.ports = ports
        self.observers: list[Observer] = []
        self.between_runs: Callable[[], None] = lambda: None
        """Called during a long batch, so that the machine can do other work meanwhile."""
        self.own_queue: Callable[[Region], OwnQueue] = lambda _region: (None, None)
        """How many writes wait in the own ring of a region's device, and what brings them there."""
        self.died: Callable[[PeerDied], None] = _raise
        """Takes the guest's death, which a handler met; what it raises ends the batch."""
        self.counters = counters
        self._entries = np.zeros(_AT_ONCE, KVM_COALESCED_MMIO)  # kept: new memory costs page faults
        self._spaces = {False: memory, True: ports}
        self.routes = Routes(self._write_several, self._failed_at)
        """Where accesses go, kept up to date with the mappings."""
        for port, space in self._spaces.items():
            space.on_change(lambda: None, partial(self._map, port, space))
        self.map_all()

    def map_all(self) -> None:
        """Tell C anew who answers the addresses of both spaces."""
        for port, space in self._spaces.items():
            self._map(port, space)

    def _map(self, port: bool, space: AddressSpace) -> None:
        table: list[Flat] = []
        for stretch in space.flat():
            if (mapping := stretch.mapping) is not None:
                region = mapping.region
                handlers = region.read, region.write, region.take_run, *self.own_queue(region)
                table.append((stretch.start, stretch.end - 1, mapping.base, *handlers))
        self.routes.map(port, table)

    def read(self, space: AddressSpace, address: int, size: int) -> int:
        """Carry out one read."""
        try:
            value = space.read(address, size)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failed(space, address, size, None, error)
            value = 0
        for observer in self.observers:
            observer.access("read", space, address, size, value)
        return value

    def write(self, space: AddressSpace, address: int, size: int, value: int) -> None:
        """Carry out one write."""
        for observer in self.observers:
            observer.access("write", space, address, size, value)
        try:
            space.write(address, size, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failed(space, address, size, value, error)

    def write_batch(self, entries: Entries, count: int, run_of: RunOf) -> None:
        """Carry out writes, which the observers have seen, as arrays where a region takes runs.

        They go in order, each to what is mapped then. One whose handler raises is consumed and
        reported; the rest of the batch continues. What ends the batch instead, as Ctrl-C does,
        leaves the number of writes that are done in `routes.done`. A run that it ends is not done:
        none of its writes is lost, but a device may see those again that it had taken.
        """
        routes, between_runs = self.routes, self.between_runs
        write = routes.write
        at = 0
        while (found := write(entries, at, count, between_runs)) is not None:
            at, stop, port, take, base, size, span = found
            run = run_of(at, stop, base, size, span)
            try:
                taken = take(run)
                if type(taken) is not int:
                    taken = whole_number("write_run()", taken)
                if not 0 <= taken <= stop - at:
                    most = stop - at
                    raise ValueError(f"write_run() gave {taken}, expected a count of 0 to {most}")
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                taken = 1
                routes.done = at + 1
                first = int(run.addresses[0]), int(run.sizes[0]), int(run.values[0])
                self.failed(self._spaces[port], base + first[0], *first[1:], error)
            if not taken:
                write(entries, at, at + 1, between_runs)
            at += taken or 1
            routes.done = at
            if at == count:
                return
            between_runs()

    def write_arrays(self, addresses: U64, sizes: U32, values: U64) -> None:
        """The same for writes to memory that are given as arrays."""
        for start in range(0, len(addresses), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._write_part(addresses[part], sizes[part], values[part])

    def _write_part(self, addresses: U64, sizes: U32, values: U64) -> None:
        entries = self._entries[: len(addresses)]
        entries["phys_addr"], entries["len"], entries["data"] = addresses, sizes, values

        def run_of(start: int, stop: int, base: int, size: int, span: tuple[int, int]) -> WriteRun:
            offsets = addresses[start:stop] - np.uint64(base)
            return WriteRun(offsets, sizes[start:stop], values[start:stop], size, span)

        self.write_batch(entries, len(entries), run_of)

    def _write_several(self, port: bool, address: int, size: int, value: int) -> None:
        """Carry out a write of a batch that several regions answer, or none."""
        self._spaces[port].write(address, size, value)

    def _failed_at(
        self, port: bool, address: int, size: int, value: int, error: BaseException
    ) -> None:
        space = self._spaces[port]
        if isinstance(error, KeyboardInterrupt):
            self.routes.done += has_begun(error, space.region_at(address))
            raise error
        self.failed(space, address, size, value, error)

    def failed(
        self, space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
    ) -> None:
        """Report an access whose device raised (value None: a read)."""
        if isinstance(error, PeerDied):
            self.died(error)  # the guest's side has, when the device asked it for something
            return
        if isinstance(error, ProtocolError | DrainGivenUp):
            raise error  # by the guest's side, or a drain, that the device has asked for something
        self.counters.count_failure(lambda: _failure(space, address, size, value, error))


def has_begun(error: BaseException, region: Region | None) -> bool:
    """True when a signal handler raised `error` in the region's `write` or a function it called.

    False when it raised before `write` began. A `write` that is no Python function leaves no
    trace: then True.
    """
    code = None if region is None else getattr(region.write, "__code__", None)
    if code is None:
        return True
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code is not code:
        at = at.tb_next
    return at is not None and code.co_code[at.tb_lasti] != _RESUME


def _raise(death: PeerDied) -> None:
    raise death


def _failure(
    space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
) -> str:
    region = space.region_at(address)
    what = f"read of {size} bytes" if value is None else f"write of {size} bytes {value:#x}"
    where = region.name if region else "unassigned"
    return f"{space.name}: {what} at {address:#x} ({where}): {guest.describe(error)}"
