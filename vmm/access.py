"""Carrying accesses of the guest out on the machine's devices."""

from __future__ import annotations

from functools import partial

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv import guest
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.vmm.counters import Counters
from coalesced.vmm.tracing import Observer


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
        self._counters = counters
        self._failed_in = {space: partial(self.failed, space) for space in (memory, ports)}

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

    def write_run(self, space: AddressSpace, run: WriteRun) -> None:
        """Carry out a run of writes, which the observers have seen."""
        space.write_batch(run, self._failed_in[space])

    def failed(
        self, space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
    ) -> None:
        """Report an access whose device raised (value None: a read)."""
        if isinstance(error, PeerDied | ProtocolError | DrainGivenUp):
            raise error  # by the guest's side, or a drain, that the device has asked for something
        self._counters.count_failure(lambda: _failure(space, address, size, value, error))


def _failure(
    space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
) -> str:
    region = space.region_at(address)
    what = f"read of {size} bytes" if value is None else f"write of {size} bytes {value:#x}"
    where = region.name if region else "unassigned"
    return f"{space.name}: {what} at {address:#x} ({where}): {guest.describe(error)}"
