"""Guest RAM in shared memory, and the zones of a VM: what `process` and `kvm` have in common."""

from __future__ import annotations

from typing import Protocol

from coalesced.devices.bus.device import Ram
from coalesced.hv.client import ZoneChange
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.shm import Memory


class SlotVm(Protocol):
    """The requests of a VM about memory and zones."""

    def set_user_memory_region(
        self,
        slot: int,
        start: int,
        size: int,
        memory: Memory | None = None,
        readonly: bool = False,
    ) -> Memory | None: ...

    def change_coalesced_mmio(self, change: ZoneChange) -> int: ...

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None: ...


class SharedMemory:
    """A slot of guest RAM, or ROM, that both processes map."""

    def __init__(self, slot: int, memory: Memory, readonly: bool = False) -> None:
        self.slot = slot
        self.readonly = readonly
        self.memory = memory
        self.start = memory.start
        self.size = memory.size
        self.view = memoryview(memory.mapping).toreadonly()
        self.read = memory.mapping.read
        self.write = memory.mapping.write

    def show(self, vm: SlotVm, shown: bool) -> None:
        """Give the slot back to the guest with its contents, or take it away."""
        size = self.size if shown else 0
        vm.set_user_memory_region(self.slot, self.start, size, self.memory, self.readonly)


class SharedSlots:
    """An accelerator whose VM takes its memory in slots, numbered in order."""

    def __init__(self, vm: SlotVm) -> None:
        self._slot_vm = vm
        self.ioeventfd = vm.ioeventfd
        self._slots = 0

    def add_slot(self, start: int, size: int, readonly: bool = False) -> Memory:
        """New, zeroed RAM in the next slot, or ROM."""
        memory = self._slot_vm.set_user_memory_region(self._slots, start, size, readonly=readonly)
        assert memory is not None
        self._slots += 1
        return memory

    def add_memory(self, start: int, size: int) -> SharedMemory:
        memory = self.add_slot(start, size)
        return SharedMemory(self._slots - 1, memory)

    def add_rom(self, start: int, contents: bytes) -> SharedMemory:
        """ROM of whole pages: the guest reads and executes it, its writes go to devices."""
        memory = self.add_slot(start, len(contents), readonly=True)
        memory.mapping.write(0, contents)
        return SharedMemory(self._slots - 1, memory, readonly=True)

    def show_memory(self, memory: Ram, shown: bool) -> None:
        assert isinstance(memory, SharedMemory)
        memory.show(self._slot_vm, shown)

    posted = False

    def change_coalesced(self, change: ZoneChange) -> int:
        return self._slot_vm.change_coalesced_mmio(change)

    def create_ring(self) -> OwnRing | None:
        return None
