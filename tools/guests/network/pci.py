"""Finds a PCI device, places its registers and wires its interrupt, as a PC's firmware does."""

from __future__ import annotations

from typing import Final

from coalesced.devices.bus.pci import (
    BASE_ADDRESS_0,
    COMMAND,
    COMMAND_MASTER,
    COMMAND_MEMORY,
    INTERRUPT_LINE,
    INTERRUPT_PIN,
    VENDOR_ID,
)
from coalesced.devices.bus.pci_bus import PIRQ_IRQS, SLOTS
from coalesced.hv.vcpu import Vcpu

CONFIG_ADDRESS: Final = 0xCF8
CONFIG_DATA: Final = 0xCFC
_ENABLE: Final = 1 << 31


class PciSlot:
    """Function 0 of a slot of bus 0, through the host bridge's ports."""

    def __init__(self, vcpu: Vcpu, slot: int) -> None:
        self._vcpu = vcpu
        self.slot = slot

    def read(self, offset: int) -> int:
        """The dword of the configuration space that holds `offset`."""
        self._vcpu.out32(CONFIG_ADDRESS, _ENABLE | self.slot << 11 | offset & ~3)
        return self._vcpu.in32(CONFIG_DATA)

    def write(self, offset: int, value: int) -> None:
        """Write the dword at `offset`, a multiple of 4."""
        self._vcpu.out32(CONFIG_ADDRESS, _ENABLE | self.slot << 11 | offset)
        self._vcpu.out32(CONFIG_DATA, value)

    def place(self, bar: int, end: int) -> int:
        """Put a memory BAR right below `end`, as its size allows; its address."""
        at = BASE_ADDRESS_0 + 4 * bar
        self.write(at, 0xFFFF_FFFF)
        size = -(self.read(at) & ~0xF) & 0xFFFF_FFFF
        address = (end - size) & -size
        self.write(at, address)
        return address

    def enable(self) -> None:
        """Let the function decode memory and reach it by itself."""
        self.write(COMMAND, self.read(COMMAND) & 0xFFFF | COMMAND_MEMORY | COMMAND_MASTER)

    def wire_interrupt(self) -> int:
        """Write the pin's ISA interrupt to the register that drivers read; its number."""
        pins = self.read(INTERRUPT_LINE)
        pin = pins >> 8 * (INTERRUPT_PIN - INTERRUPT_LINE) & 0xFF
        irq = PIRQ_IRQS[(self.slot - 1 + pin - 1) & 3]
        self.write(INTERRUPT_LINE, pins & ~0xFF | irq)
        return irq


def find(vcpu: Vcpu, vendor: int, device: int) -> PciSlot:
    """The first function with these identifiers. Raises LookupError when there is none."""
    for number in range(SLOTS):
        slot = PciSlot(vcpu, number)
        if slot.read(VENDOR_ID) == device << 16 | vendor:
            return slot
    raise LookupError(f"no PCI device {vendor:04x}:{device:04x} on bus 0")
