"""Guest RAM in shared memory, and the zones of a VM: what `process` and `kvm` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coalesced.devices.bus.device import Ram
from coalesced.hv.client import Memory, Range


class SlotVm(Protocol):
    """The requests of a VM about memory and zones."""

    def set_user_memory_region(
        self, slot: int, start: int, size: int, memory: Memory | None = None
    ) -> Memory | None: ...

    def change_coalesced_mmio(
        self, removed: Sequence[Range], added: Sequence[Range], pio: bool = False
    ) -> int: ...


class SharedMemory:
    """A slot of guest RAM that both processes map."""

    def __init__(self, slot: int, memory: Memory) -> None:
        self.slot = slot
        self.memory = memory
        self.start = memory.start
        self.size = memory.size
        self.view = memoryview(memory.mapping).toreadonly()
        self.read = memory.mapping.read
        self.write = memory.mapping.write

    def show(self, vm: SlotVm, shown: bool) -> None:
        """Give the slot back to the guest with what it holds, or take it away."""
        size = self.size if shown else 0
        vm.set_user_memory_region(self.slot, self.start, size, self.memory)


class SharedSlots:
    """An accelerator whose VM takes its memory in slots, numbered in order."""

    def __init__(self, vm: SlotVm) -> None:
        self._slot_vm = vm
        self._slots = 0

    def add_slot(self, start: int, size: int) -> Memory:
        """New, zeroed RAM in the next slot."""
        memory = self._slot_vm.set_user_memory_region(self._slots, start, size)
        assert memory is not None
        self._slots += 1
        return memory

    def add_memory(self, start: int, size: int) -> SharedMemory:
        memory = self.add_slot(start, size)
        return SharedMemory(self._slots - 1, memory)

    def show_memory(self, memory: Ram, shown: bool) -> None:
        assert isinstance(memory, SharedMemory)
        memory.show(self._slot_vm, shown)

    def change_coalesced(self, removed: Sequence[Range], added: Sequence[Range], port: bool) -> int:
        return self._slot_vm.change_coalesced_mmio(removed, added, port)
