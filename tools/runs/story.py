"""`--explain`: a line for each access of the guest, with its slot in the ring or its exit."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.tools.runs.words import plural
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import UNASSIGNED, Sink

# The rules of docs/design.md by which an access goes its way.
QUEUED: Final = "(rule 1)"
DRAINED: Final = "(rule 5)"
REASONS: Final = {
    "load": "the guest waits for its value (rule 2)",
    "ring_full": "the ring is full (rule 3)",
    "straddle": "it crosses the edge of a zone (rule 1)",
    "no_zone": "no zone contains it (rule 1)",
}
"""Why an access exits."""
VERBS: Final = {"read": ("load", "in"), "write": ("store", "out")}
"""By kind: the guest's operation on memory, and on a port."""


def why_it_exits(machine: Machine, kind: str, address: int, size: int, port: bool) -> str:
    """The reason of REASONS for an access that exited; `kind`: "read" or "write"."""
    if kind == "read":
        return REASONS["load"]
    return REASONS[machine.coalescing.kind_of(address, size, port)]


class Story:
    """Explains accesses in the guest's order: its slot in the ring, or the reason of its exit.

    Queued writes are explained when the VMM drains them, before that it does not know of them.
    """

    def __init__(self, machine: Machine, out: Sink, limit: int | None) -> None:
        """`limit`: accesses to explain, None for all."""
        self._machine = machine
        self._out = out
        self._limit = limit
        self._explained = 0

    def access(self, kind: str, space: AddressSpace, address: int, size: int, value: int) -> None:
        """Explain an access that exited."""
        if self._is_over():
            return
        port = space is self._machine.ports
        how = f"exit: {why_it_exits(self._machine, kind, address, size, port)}"
        self._explain(kind, space, address, size, value, how)

    def batch(self, entries: NDArray[np.void]) -> None:
        """Explain the writes of a drain."""
        queue = self._machine.drained_now
        assert queue is not None
        slots = queue.ring.core.slots
        oldest = queue.coalesced % slots
        whose = "" if queue.own is None else f" of {queue.name}'s ring"
        for number, (address, size, pio, value) in enumerate(entries.tolist()):
            if self._is_over():
                break
            slot = (oldest + number) % slots
            space = self._machine.ports if pio else self._machine.memory
            how = f"slot {slot}{whose}: first {oldest}, last {(slot + 1) % slots}"
            self._explain("write", space, address, size, value, how)
        if not self._is_over():
            count = len(entries)
            self._out.write(
                f"       drain of {plural(count, 'write')}, {plural(count, 'exit')} saved "
                f"{DRAINED}: first {(queue.coalesced + count) % slots}\n"
            )

    def _is_over(self) -> bool:
        return self._limit is not None and self._explained >= self._limit

    def _explain(
        self, kind: str, space: AddressSpace, address: int, size: int, value: int, how: str
    ) -> None:
        self._explained += 1
        verb = VERBS[kind][space is self._machine.ports]
        self._out.write(
            f"{self._explained:>5}  {verb:<5} {size} {'at' if kind == 'read' else 'to'} "
            f"{address:#x} {place(space, address)} {'=' if kind == 'read' else '<-'} "
            f"{value:#0{2 + 2 * size}x}  {how}\n"
        )
        if self._is_over():
            self._out.write("       The guest runs on; later accesses are not explained.\n")


def place(space: AddressSpace, address: int) -> str:
    """The register at an address, or the region with the offset in it."""
    mapping = space.find(address).mapping
    if mapping is None:
        return UNASSIGNED
    region, offset = mapping.region, address - mapping.base
    register = region.register(offset) if region.register is not None else None
    return f"{region.name} {register}" if register else f"{region.name}+{offset:#x}"
