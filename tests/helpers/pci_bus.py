"""A PCI bus without a board."""

from __future__ import annotations

from collections.abc import Callable

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.pci_bus import PciBus
from coalesced.vmm.clock import Clock
from coalesced.vmm.dma import MemoryMaster
from coalesced.vmm.loop import Loop


def pci_bus(
    memory: AddressSpace,
    ports: AddressSpace,
    set_irq: Callable[[int, bool], None] = lambda _irq, _level: None,
) -> PciBus:
    """Bus 0 of a machine without RAM."""
    return PciBus(memory, ports, set_irq, MemoryMaster([], memory), Clock(Loop()))
