"""A PCI bus without a board."""

from __future__ import annotations

from collections.abc import Callable

from devices.bus.address_space import AddressSpace
from devices.bus.pci import PciBus
from vmm.clock import Clock
from vmm.dma import MemoryMaster
from vmm.loop import Loop


def pci_bus(
    memory: AddressSpace,
    ports: AddressSpace,
    set_irq: Callable[[int, bool], None] = lambda _irq, _level: None,
) -> PciBus:
    """Bus 0 of a machine without RAM."""
    return PciBus(memory, ports, set_irq, MemoryMaster([], memory), Clock(Loop()))
