"""Observing every access of the guest; tracing it in the format of QEMU's memory_region_ops_*."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.address_space import AddressSpace

UNASSIGNED = "unassigned"

# A line of QEMU's is a call of a handler, and an access may take several; a line here is an access.
# To mark this, the number in place of QEMU's host pointer is one that no program can have.
WHOLE_ACCESSES: Final = 1 << 63


class Sink(Protocol):
    """A destination of text."""

    def write(self, text: str, /) -> object:
        """Take some more of it."""


class Observer(Protocol):
    """Sees every access of the guest, in the order in which the devices see them."""

    def access(self, kind: str, space: AddressSpace, address: int, size: int, value: int) -> None:
        """An access that exited, or came from a guest in this process: a 'read', which has been
        answered, or a 'write', which has not reached its device."""

    def batch(self, entries: NDArray[np.void]) -> None:
        """Writes out of the ring, before any of them reaches its device."""


class Tracer:
    """One line per access, in the order in which the devices see them.

    `mr` numbers the regions in the order of their first access, from WHOLE_ACCESSES + 1.
    An access that no region answers has the name 'unassigned', which QEMU does not trace.
    """

    def __init__(self, out: Sink, memory: AddressSpace, ports: AddressSpace) -> None:
        self._out = out
        self._memory = memory
        self._ports = ports
        self._numbers: dict[str, int] = {}

    def access(self, kind: str, space: AddressSpace, address: int, size: int, value: int) -> None:
        """Write one line; `kind` is 'read' or 'write'."""
        region = space.region_at(address)
        name = region.name if region else UNASSIGNED
        number = self._numbers.setdefault(name, WHOLE_ACCESSES + len(self._numbers) + 1)
        self._out.write(
            f"memory_region_ops_{kind} cpu 0 mr {number:#x} addr {address:#x} "
            f"value {value:#x} size {size} name '{name}'\n"
        )

    def batch(self, entries: NDArray[np.void]) -> None:
        """The lines of a drained batch."""
        for address, size, pio, value in entries.tolist():
            self.access("write", self._ports if pio else self._memory, address, size, value)
