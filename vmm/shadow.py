"""Shadow RAM: the RAM behind the video window and the ROMs, which a chipset shows and hides."""

from __future__ import annotations

from typing import Final

from coalesced.devices.bus.address_space import Mapping
from coalesced.devices.bus.region import Region
from coalesced.hv.errors import HostError
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.machine import Machine
from coalesced.vmm.rom import Rom

_RAM_PRIORITY: Final = 1 << 16  # RAM hides every device


class ShadowRam:
    """A stretch of RAM that is hidden at first, and keeps its contents while it is hidden.

    While it is shown, the guest and bus masters reach it like other RAM, and no write to it is
    coalesced. It takes memory of the host from its first showing on.
    """

    def __init__(self, machine: Machine, start: int, size: int) -> None:
        self._machine = machine
        self._start = start
        self._size = size
        self._memory: GuestMemory | None = None
        self._mapping: Mapping | None = None
        self.rom: Rom | None = None
        """The ROM in its place, which the guest sees while the RAM is hidden."""
        self._region = Region("shadow-ram", size, self._read, self._write)

    def show(self, shown: bool) -> None:
        """Map the RAM over devices, or give the place back to them.

        Writes queued before the change reach the old owner. Raises HostError without room.
        """
        if shown == (self._mapping is not None):
            return
        if shown:
            self._put()
        else:
            self._take_away()

    def _put(self) -> None:
        machine = self._machine
        mapping = machine.memory.map(self._region, self._start, _RAM_PRIORITY)
        try:
            if self.rom is not None:
                self.rom.show(False)
            if self._memory is None:
                self._memory = machine.add_ram(self._start, self._size)
            else:
                machine.accel.show_memory(self._memory, True)
                machine.ram.append(self._memory)
        except HostError:
            machine.memory.unmap(mapping)
            raise
        self._mapping = mapping

    def _take_away(self) -> None:
        assert self._memory is not None
        assert self._mapping is not None
        machine, mapping = self._machine, self._mapping
        machine.memory.unmap(mapping)
        self._mapping = None
        machine.accel.show_memory(self._memory, False)
        machine.ram.remove(self._memory)
        if self.rom is not None:
            self.rom.show(True)

    # --- accesses: queued writes, and a guest in this process ---

    def _read(self, offset: int, size: int) -> int:
        assert self._memory is not None
        return int.from_bytes(self._memory.read(offset, size), "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        assert self._memory is not None
        self._memory.write(offset, value.to_bytes(size, "little"))
