"""Recording a guest's bus operations while it runs on `direct`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.errors import GuestError
from coalesced.hv.outcome import Exit
from coalesced.hv.vcpu import Bus
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.direct_bus import DirectBus
from coalesced.vmm.loop import Loop

MOST_ACCESSES = 1 << 24  # of a recorded guest; one that never ends would fill the memory
_ALONE = "; the vCPUs are recorded one after the other: none can wait for another"
_SINGLES = 1 << 16  # single accesses that become an array


@dataclass(frozen=True)
class MemoryAccess:
    """A `read_memory` (what it gave) or `write_memory` (what it put) of guest RAM."""

    write: bool
    address: int
    data: bytes


Step = NDArray[np.void] | MemoryAccess


@dataclass
class Recording:
    """The steps of a guest in order: arrays of bus operations (`hv.abi.OP`), and copies of RAM.

    The value of a load or in is what the guest got.
    """

    steps: list[Step] = field(default_factory=list)


class RecordingAccelerator(DirectAccelerator):
    """`direct`, with everything that its guest has done in `recordings`, one for each vCPU.

    The vCPUs run one after the other: the second one begins when the first one has halted.
    """

    def __init__(self, most: int = MOST_ACCESSES, vcpus: int = 1) -> None:
        """`most`: number of accesses after which the guest is ended with a GuestError."""
        super().__init__()
        self.recordings = [Recording() for _ in range(vcpus)]
        self._most = most

    def guests_bus(self, bus: DirectBus) -> Bus:
        alone = _ALONE if len(self.recordings) > 1 else ""
        self._seen = RecordingBus(bus, self.recordings[self._index], self._most, alone)
        return self._seen

    def run(self, loop: Loop) -> Exit:
        for index in range(len(self.recordings)):
            self._index = index
            halted = super().run(loop)
            self._seen.finish()
        return halted


class RecordingBus:
    """A bus that carries out and records operations, but for those that the processor refuses."""

    def __init__(self, bus: Bus, recording: Recording, most: int, hint: str = "") -> None:
        """`hint`: end of the error for a guest of more than `most` accesses."""
        self._bus = bus
        self._hint = hint
        self._steps = recording.steps
        self._singles: list[tuple[int, int, int, int]] = []
        self._most = self._left = most

    def load(self, address: int, size: int, /) -> int:
        value = self._bus.load(address, size)
        self._note(OP_LOAD, size, address, value)
        return value

    def store(self, address: int, size: int, value: int, /) -> None:
        self._bus.store(address, size, value)
        self._note(OP_STORE, size, address, value)

    def in_(self, port: int, size: int, /) -> int:
        value = self._bus.in_(port, size)
        self._note(OP_IN, size, port, value)
        return value

    def out(self, port: int, size: int, value: int, /) -> None:
        self._bus.out(port, size, value)
        self._note(OP_OUT, size, port, value)

    def execute(self, ops: NDArray[np.void], /) -> None:
        done = ops.reshape(-1)[: _carried_out(ops.reshape(-1))]
        try:
            self._bus.execute(ops)
        finally:
            self._note_array(done)

    def store_many(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64], /
    ) -> None:
        self._stores(addresses, size, values)
        self._bus.store_many(addresses, size, values)

    def fill(self, address: int, size: int, count: int, value: int, /) -> None:
        self._bus.fill(address, size, count, value)
        addresses = np.uint64(address) + np.arange(count, dtype=np.uint64) * np.uint64(size)
        self._stores(addresses, size, np.uint64(int(value) & (1 << 64) - 1))

    def read_memory(self, address: int, size: int, /) -> bytearray:
        data = self._bus.read_memory(address, size)
        self._copy(MemoryAccess(False, int(address), bytes(data)))
        return data

    def write_memory(self, address: int, data: bytes, /) -> None:
        self._bus.write_memory(address, data)
        self._copy(MemoryAccess(True, int(address), bytes(data)))

    def wait_interrupt(self, lines: int, timeout: float | None, /) -> int:
        raise GuestError(
            "wait_interrupt: --accel kvm runs a recording of the guest, without interrupts"
        )

    def finish(self) -> None:
        """Add the steps that are not recorded yet; the guest has ended."""
        if self._singles:
            self._append(np.array(self._singles, dtype=OP), len(self._singles))
            self._singles = []

    # --- recording ---

    def _note(self, kind: int, size: int, address: int, value: int) -> None:
        self._singles.append((kind, size, int(address), int(value) & (1 << 8 * size) - 1))
        if len(self._singles) >= _SINGLES:
            self.finish()

    def _note_array(self, ops: NDArray[np.void]) -> None:
        if len(ops):
            self.finish()
            self._append(ops.copy(), len(ops))

    def _copy(self, access: MemoryAccess) -> None:
        self.finish()
        self._append(access, -(-len(access.data) // OP.itemsize))

    def _append(self, step: Step, weight: int) -> None:
        self._left -= weight
        if self._left < 0:
            raise GuestError(
                f"more than {self._most:,} accesses: --accel kvm runs recorded guests, which end"
                f"{self._hint}"
            )
        self._steps.append(step)

    def _stores(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64] | np.uint64
    ) -> None:
        ops = np.zeros(len(addresses), dtype=OP)
        ops["kind"] = OP_STORE
        ops["size"] = size
        ops["address"] = addresses
        ops["value"] = values
        self._note_array(ops[: _carried_out(ops)])


def _carried_out(ops: NDArray[np.void]) -> int:
    """The number of operations before the first that the processor refuses."""
    kinds, sizes = ops["kind"], ops["size"].astype(np.uint64)
    last = ops["address"] + sizes - np.uint64(1)
    port = (kinds == OP_IN) | (kinds == OP_OUT)
    fits = np.where(port, last < 1 << 16, last >= ops["address"])
    good = (kinds <= OP_OUT) & np.isin(sizes, (1, 2, 4, 8)) & ~(port & (sizes == 8)) & fits
    return len(ops) if good.all() else int(np.argmin(good))
