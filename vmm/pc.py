"""A PC's memory map: where RAM lies and where legacy chips answer."""

from __future__ import annotations

from coalesced.devices.vga import Vga
from coalesced.vmm.machine import Machine

CONVENTIONAL = 0xA0000  # RAM below the video window
HIGH_MEMORY = 0x100000  # RAM above the first MiB
VGA_WINDOW = 0xA0000
VGA_PORTS = 0x3B0
DEFAULT_MEMORY = 4 << 20


def add_ram(machine: Machine, size: int = DEFAULT_MEMORY) -> None:
    """`size` bytes of RAM, a multiple of 4096 above 1 MiB: 640 KiB, a hole, and the rest."""
    if size <= HIGH_MEMORY or size % 4096:
        raise ValueError(f"expected more than 1 MiB of RAM in whole pages, got {size} bytes")
    machine.add_ram(0, CONVENTIONAL)
    machine.add_ram(HIGH_MEMORY, size - HIGH_MEMORY)


def add_vga(machine: Machine) -> Vga:
    """A VGA at its legacy addresses: the window 0xa0000 + 0x20000 and ports 0x3b0 to 0x3df."""
    vga = Vga()
    machine.add_device(vga)
    machine.memory.map(vga.window, VGA_WINDOW)
    machine.ports.map(vga.ports, VGA_PORTS)
    return vga
