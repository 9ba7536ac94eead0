"""ROM: memory that the guest reads and executes, and that no write changes."""

from __future__ import annotations

from typing import Final, cast

from coalesced.devices.bus.region import Region
from coalesced.vmm.accel.base import Processor
from coalesced.vmm.machine import Machine

_PRIORITY: Final = -1  # devices hide it, and so does RAM


class Rom:
    """`contents`, in whole pages, from `start` on. The machine's guest is machine code."""

    def __init__(self, machine: Machine, start: int, contents: bytes) -> None:
        self._accel = cast(Processor, machine.accel)
        self._contents = contents
        self._space = machine.memory
        self._memory = self._accel.add_rom(start, contents)
        self._region = Region("rom", len(contents), self._read, _ignore)
        self._mapping = self._space.map(self._region, start, _PRIORITY)

    def move(self, start: int) -> None:
        """Put it back elsewhere after `remove`."""
        self._memory.start = start
        self.show(True)
        self._mapping = self._space.map(self._region, start, _PRIORITY)

    def show(self, shown: bool) -> None:
        """Take it out of the guest's reach, or put it back."""
        self._accel.show_memory(self._memory, shown)

    def remove(self) -> None:
        """Take it away; `move` puts it back."""
        self.show(False)
        self._space.unmap(self._mapping)

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self._contents[offset : offset + size], "little")


def _ignore(_offset: int, _size: int, _value: int) -> None:
    """A write to ROM."""
