"""Accelerator `direct`: the guest in this process, no ring and no exits, as QEMU's TCG does it."""

from __future__ import annotations

import contextlib
import operator
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from devices.bus.dma import Ram
from hv import guest
from hv.abi import KVM_EXIT_HLT, OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from hv.client import Exit, Range
from hv.errors import CoalescedError, GuestError, RequestError
from hv.printable import printable_stream
from hv.ring import Consumer
from hv.vcpu import Bus, Vcpu
from vmm.accel.base import MachineBus
from vmm.loop import Loop

T = TypeVar("T")

# Seconds of a guest that does not wait, after which the loop has its turn between two operations.
_TURN: Final = 50e-6
_HALTED: Exit = (KVM_EXIT_HLT, 0, 0, False, 0)


class LocalMemory:
    """Guest RAM of this process alone."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self._bytes = bytearray(size)
        self.view = memoryview(self._bytes).toreadonly()

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return bytes(self._bytes[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self._bytes[offset : offset + len(data)] = data

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at offset {offset} of RAM of {self.size} bytes")


class DirectAccelerator:
    """Runs a guest by calling it: an access is a call of the device."""

    name = "direct"
    coalesced_mmio = False
    coalesced_pio = False
    pid: int | None = None
    ring: Consumer | None = None

    def __init__(self) -> None:
        self._memory: list[LocalMemory] = []
        self._guest: Callable[[Vcpu], object] | None = None
        self._bus: MachineBus | None = None
        self._first_operation = 0
        self._lines = 0

    def add_memory(self, start: int, size: int) -> LocalMemory:
        memory = LocalMemory(start, size)
        self._memory.append(memory)
        return memory

    def show_memory(self, memory: Ram, shown: bool) -> None:
        assert isinstance(memory, LocalMemory)
        if shown:
            self._memory.append(memory)
        else:
            self._memory.remove(memory)

    def change_coalesced(self, removed: Sequence[Range], added: Sequence[Range], port: bool) -> int:
        raise RuntimeError("direct has no ring")

    def set_irq(self, line: int, level: bool) -> None:
        self._lines = self._lines | 1 << line if level else self._lines & ~(1 << line)

    def load_guest(self, name: str, arguments: Mapping[str, object]) -> None:
        try:
            function = guest.load(name)
        except guest.GuestNotFound as error:
            raise RequestError(2, str(error)).with_frames(guest.frames(error)) from error
        self._guest = lambda vcpu: function(vcpu, **arguments)

    def attach(self, bus: MachineBus) -> None:
        self._bus = bus

    def pause(self) -> None:
        """Nothing to do: while the machine's own code runs, the guest does not."""

    def run(self, loop: Loop) -> Exit | bool:
        assert self._guest is not None
        assert self._bus is not None
        bus = DirectBus(self._bus, self._memory, lambda: self._lines, loop)
        try:
            # As in the guest process: what a guest prints goes to stderr.
            with contextlib.redirect_stdout(printable_stream(sys.stderr)):
                self._guest(Vcpu(self.guests_bus(bus)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, CoalescedError) and not isinstance(error, GuestError):
                raise
            raise GuestError(guest.describe(error)).with_frames(guest.frames(error)) from error
        finally:
            self._first_operation = bus.first_operation
        return _HALTED

    def guests_bus(self, bus: DirectBus) -> Bus:
        """What the guest gets to see of the bus."""
        return bus

    def complete(self, value: int) -> None:
        raise RuntimeError("direct has no exits")

    def enter(self) -> None:
        raise RuntimeError("direct has no exits")

    def guest_error(self) -> Exception:
        raise RuntimeError("direct has no exits")

    def first_operation(self) -> int:
        return self._first_operation

    def signals(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to give back."""


class DirectBus:
    """`hv.vcpu.Bus` over a machine: the same checks, page splits and RAM as the vCPU core."""

    def __init__(
        self,
        machine: MachineBus,
        memory: list[LocalMemory],
        lines: Callable[[], int],
        loop: Loop,
    ) -> None:
        self.first_operation = 0
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
        self._begin()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._loop.run_timers()
            raised = self._lines() & lines
            if raised:
                return raised
            left = self._loop.timeout()
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return 0
                left = remaining if left is None else min(left, remaining)
            self._loop.wait(left)

    # --- checks ---

    def _begin(self) -> None:
        if not self.first_operation:
            self.first_operation = time.monotonic_ns()
        self._turn()

    def _turn(self) -> None:
        """An operation begins: the moment for whatever else the machine has to do."""
        loop = self._loop
        if (loop.timers or loop.watching) and time.monotonic() >= self._turn_at:
            loop.run_timers()
            loop.serve()
            self._turn_at = time.monotonic() + _TURN

    def _ram(self, address: int) -> LocalMemory | None:
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
        number.to_bytes(8, "little")  # raises the core's OverflowError
    return number


def _numbered(index: int, call: Callable[..., T], *arguments: int) -> T:
    """Carry out one of many accesses; an error says which."""
    try:
        return call(*arguments)
    except GuestError as error:
        raise GuestError(f"operation {index}: {error}") from error
