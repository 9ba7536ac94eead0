"""Memory as the devices of a machine access it (bus mastering)."""

from __future__ import annotations

from collections.abc import Callable

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.vmm.accel.base import GuestMemory

_TOP = 1 << 64
_WIDEST = 8  # bytes of one access to a device
_MOST = 1 << 32  # bytes of one access by a device: what a length of 32 bits asks for


class MemoryMaster:
    """A machine's RAM, and where there is none, the regions of its memory address space.

    RAM wins over a region at the same address, as for the guest's own accesses. An address past
    2**64 - 1 wraps to 0. Only regions cost time by size; unassigned addresses do not.
    """

    def __init__(self, ram: list[GuestMemory], space: AddressSpace) -> None:
        """`ram` may grow later."""
        self._ram = ram
        self._space = space
        self.device_accesses = 0
        self.on_write: Callable[[int, int], None] | None = None
        """Called with address and size of each write to RAM, where code may lie."""

    def ram_at(self, address: int) -> GuestMemory | None:
        for memory in self._ram:
            if memory.start <= address < memory.start + memory.size:
                return memory
        return None

    def read(self, address: int, size: int) -> bytes:
        for memory in self._ram:
            offset = address - memory.start
            if offset >= 0 and offset + size <= memory.size:
                return memory.read(offset, size)
        if not 0 <= size <= _MOST:
            raise ValueError(f"DMA of {size} bytes from {address:#x}: expected 0 to {_MOST}")
        parts: list[bytes] = []
        while size > 0:
            address %= _TOP
            ram, length = self._piece(address, size)
            if ram is not None:
                parts.append(ram.read(address - ram.start, length))
            elif self._space.region_at(address) is None:
                parts.append(bytes(length))
            else:
                parts.append(self._read_region(address, length))
            address += length
            size -= length
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        size = len(data)
        for memory in self._ram:
            offset = address - memory.start
            if offset >= 0 and offset + size <= memory.size:
                memory.write(offset, data)
                if self.on_write is not None:
                    self.on_write(address, size)
                return
        at = 0
        while at < size:
            address %= _TOP
            ram, length = self._piece(address, size - at)
            part = data[at : at + length]
            if ram is not None:
                ram.write(address - ram.start, part)
                if self.on_write is not None:
                    self.on_write(address, length)
            elif self._space.region_at(address) is not None:
                self._write_region(address, part)
            address += length
            at += length

    def _piece(self, address: int, size: int) -> tuple[GuestMemory | None, int]:
        """The RAM at `address`, if any, and how many of `size` bytes are of the same kind."""
        length = min(size, _TOP - address)
        for memory in self._ram:
            if memory.start <= address < memory.start + memory.size:
                return memory, min(length, memory.start + memory.size - address)
            if memory.start > address:
                length = min(length, memory.start - address)
        return None, min(length, self._space.find(address).end - address)

    def _read_region(self, address: int, size: int) -> bytes:
        read = self._space.read
        accesses = _accesses(address, size)
        self.device_accesses += len(accesses)
        return b"".join(read(at, length).to_bytes(length, "little") for at, length in accesses)

    def _write_region(self, address: int, data: bytes) -> None:
        accesses = _accesses(address, len(data))
        self.device_accesses += len(accesses)
        for at, length in accesses:
            offset = at - address
            value = int.from_bytes(data[offset : offset + length], "little")
            self._space.write(at, length, value)


def _accesses(address: int, size: int) -> list[tuple[int, int]]:
    """(address, size) of naturally aligned accesses that cover the range."""
    accesses = []
    end = address + size
    while address < end:
        length = _WIDEST
        while address % length or address + length > end:
            length //= 2
        accesses.append((address, length))
        address += length
    return accesses
