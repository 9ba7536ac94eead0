"""The VGA: ports, planar memory, picture; with VBE modes, on PCI, ISA and memory-mapped."""

from devices.vga.variants import IsaVga, PciVga, VgaMm
from devices.vga.vga import Vga

__all__ = ["IsaVga", "PciVga", "Vga", "VgaMm"]
