"""The bus of a guest that runs in the VMM's own process."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.device import Ram
from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from coalesced.hv.errors import GuestError
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.handlers import GuestHandlers
from coalesced.vmm.loop import Loop

T = TypeVar("T")

# Seconds that a guest may run without waiting before the loop is served between two operations.
_TURN: Final = 50e-6
_FORKED: Final = (
    "the vCPU belongs to the guest process, and this is a fork of it: only the guest process "
    "itself can use it"
)


class DirectBus:
    """`hv.vcpu.Bus` over a machine: the same checks, page splits and RAM as the vCPU core."""

    def __init__(
        self,
        machine: MachineBus,
        memory: Sequence[Ram],
        lines: Callable[[], int],
        loop: Loop,
        handlers: GuestHandlers,
    ) -> None:
        self.first_operation = 0
        self._forked = False
        self._handlers = handlers
        self._machine = machine
        self._memory = memory
        self._lines = lines
        self._loop = loop
        self._turn_at = 0.0

    # --- single accesses ---

    def load(self, address: int, size: int, /) -> int:
        address = _unsigned(address)
        self._check_memory("load", address, size)
        value = 0
        for piece, shift, length in _pages(address, size):
            memory = self._ram(piece)
            if memory is not None:
                data = memory.read(piece - memory.start, length)
                value |= int.from_bytes(data, "little") << shift
            else:
                value |= self._machine.read_one(False, piece, length) << shift
        return value

    def store(self, address: int, size: int, value: int, /) -> None:
        address, value = _unsigned(address), operator.index(value)
        self._check_memory("store", address, size)
        value &= (1 << 8 * size) - 1
        for piece, shift, length in _pages(address, size):
            part = value >> shift & (1 << 8 * length) - 1
            memory = self._ram(piece)
            if memory is not None:
                memory.write(piece - memory.start, part.to_bytes(length, "little"))
            else:
                self._machine.write_one(False, piece, length, part)

    def in_(self, port: int, size: int, /) -> int:
        port = _unsigned(port)
        self._check_port("in", port, size)
        return self._machine.read_one(True, port, size)

    def out(self, port: int, size: int, value: int, /) -> None:
        port, value = _unsigned(port), operator.index(value)
        self._check_port("out", port, size)
        self._machine.write_one(True, port, size, value & (1 << 8 * size) - 1)

    # --- bulk ---

    def execute(self, ops: NDArray[np.void], /) -> None:
        if not (ops.flags.c_contiguous and ops.flags.writeable):
            raise ValueError("expected a contiguous, writable array of operations")
        ops = ops.reshape(-1)
        kinds = ops["kind"]
        edges = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
        starts = [0, *edges.tolist()] if len(ops) else []
        for start, stop in zip(starts, [*edges.tolist(), len(ops)], strict=False):
            part = ops[start:stop]
            kind = int(kinds[start])
            if kind == OP_STORE:
                self._store_run(part["address"], part["size"], part["value"], start)
            elif kind == OP_OUT:
                for index, (_, size, port, value) in enumerate(part.tolist(), start):
                    _numbered(index, self.out, port, size, value)
            elif kind in (OP_LOAD, OP_IN):
                read, values = self.load if kind == OP_LOAD else self.in_, ops["value"]
                for index, (address, size) in enumerate(part[["address", "size"]].tolist(), start):
                    values[index] = _numbered(index, read, address, size)
            else:
                raise GuestError(
                    f"operation {start}: unknown kind of access of {part['size'][0]} bytes at "
                    f"{part['address'][0]:#x}: expected load, store, in or out (0 to 3)"
                )

    def store_many(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64], /
    ) -> None:
        self._store_run(addresses, np.full(len(addresses), size, dtype=np.uint32), values)

    def fill(self, address: int, size: int, count: int, value: int, /) -> None:
        address, count, value = _unsigned(address), _unsigned(count), operator.index(value)
        if count > 1 and address + size * (count - 1) >= 1 << 64:
            raise GuestError("fill: expected addresses that do not wrap")
        addresses = np.uint64(address) + np.arange(count, dtype=np.uint64) * np.uint64(size)
        self.store_many(addresses, size, np.full(count, value & (1 << 64) - 1, dtype=np.uint64))

    def _store_run(
        self,
        addresses: NDArray[np.uint64],
        sizes: NDArray[np.uint32],
        values: NDArray[np.uint64],
        first: int = 0,
    ) -> None:
        """Stores as arrays when each is one access to a device, else one by one.

        `first`: the number of the first store, for errors.
        """
        if len(addresses) == 0:
            return
        if self._plain(addresses, sizes):
            self._begin()
            # Bytes past an access's size do not count.
            self._machine.write_many(
                addresses, sizes, values & (np.uint64(2**64 - 1) >> (64 - 8 * sizes.astype("u8")))
            )
            return
        stores = zip(addresses.tolist(), sizes.tolist(), values.tolist(), strict=True)
        for index, (address, size, value) in enumerate(stores, first):
            _numbered(index, self.store, address, size, value)

    def _plain(self, addresses: NDArray[np.uint64], sizes: NDArray[np.uint32]) -> bool:
        low, high = int(addresses.min()), int(addresses.max()) + 8
        if any(m.start < high and low < m.start + m.size for m in self._memory):
            return False
        if not np.isin(sizes, (1, 2, 4, 8)).all():
            return False
        return bool(((addresses & np.uint64(PAGE_SIZE - 1)) + sizes <= PAGE_SIZE).all())

    # --- RAM and interrupts ---

    def read_memory(self, address: int, size: int, /) -> bytearray:
        if size < 0:
            raise ValueError(f"expected a size of 0 or more, got {size}")
        self._begin()
        address = _unsigned(address)
        data = bytearray()
        while len(data) < size:
            at = address + len(data)
            memory = self._ram(at)
            if memory is None:
                raise GuestError(f"read of 1 bytes at {at:#x}: expected guest RAM")
            offset = at - memory.start
            data += memory.read(offset, min(size - len(data), memory.size - offset))
        return data

    def write_memory(self, address: int, data: bytes, /) -> None:
        self._begin()
        address = _unsigned(address)
        done = 0
        while done < len(data):
            at = address + done
            memory = self._ram(at)
            if memory is None:
                raise GuestError(f"write of 1 bytes at {at:#x}: expected guest RAM")
            offset = at - memory.start
            part = data[done : done + memory.size - offset]
            memory.write(offset, part)
            done += len(part)

    def wait_interrupt(self, lines: int, timeout: float | None, /) -> int:
        with self._handlers:
            self._begin()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._handlers:
                self._loop.run_timers()
                raised = self._lines() & lines
                left = self._loop.timeout()
            if raised:
                return raised
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return 0
                left = remaining if left is None else min(left, remaining)
            self._loop.wait_ready(left)
            with self._handlers:
                self._loop.serve()

    # --- checks ---

    def _begin(self) -> None:
        if not self.first_operation:
            if self._forked:
                raise GuestError(_FORKED)
            self.first_operation = time.monotonic_ns()
        self._turn()

    def disown(self) -> None:
        """This process is a fork of the guest's: no operation begins in it any more."""
        self.first_operation = 0
        self._forked = True

    def _turn(self) -> None:
        """Before an operation: serve the machine's loop if it is time."""
        loop = self._loop
        if (loop.timers or loop.watching) and time.monotonic() >= self._turn_at:
            loop.run_timers()
            loop.serve()
            self._turn_at = time.monotonic() + _TURN

    def _ram(self, address: int) -> Ram | None:
        for memory in self._memory:
            if memory.start <= address < memory.start + memory.size:
                return memory
        return None

    def _check_memory(self, what: str, address: int, size: int) -> None:
        self._begin()
        if size not in (1, 2, 4, 8):
            raise GuestError(
                f"{what} of {size} bytes at {address:#x}: expected a size of 1, 2, 4 or 8"
            )
        if not 0 <= address <= (1 << 64) - size:
            raise GuestError(
                f"{what} of {size} bytes at {address:#x}: expected an address that does not wrap"
            )

    def _check_port(self, what: str, port: int, size: int) -> None:
        self._begin()
        if size not in (1, 2, 4):
            raise GuestError(f"{what} of {size} bytes at {port:#x}: expected a size of 1, 2 or 4")
        if not 0 <= port <= 0x10000 - size:
            raise GuestError(f"{what} of {size} bytes at {port:#x}: expected ports of 0 to 0xffff")


def _pages(address: int, size: int) -> list[tuple[int, int, int]]:
    """(address, bit shift, size) of an access, in two parts where it crosses a page."""
    room = PAGE_SIZE - (address & (PAGE_SIZE - 1))
    if size <= room:
        return [(address, 0, size)]
    return [(address, 0, room), (address + room, 8 * room, size - room)]


def _unsigned(number: int) -> int:
    """A number as the core takes it: of any integer type, 0 to 2**64 - 1."""
    number = operator.index(number)
    if not 0 <= number < 1 << 64:
        raise OverflowError(f"expected a whole number of 0 to 2**64 - 1, got {number}")
    return number


def _numbered(index: int, call: Callable[..., T], *arguments: int) -> T:
    """Carry out one of many accesses; an error says which."""
    try:
        return call(*arguments)
    except GuestError as error:
        raise GuestError(f"operation {index}: {error}") from error
