"""The VGA: ports, planar memory, picture; with VBE modes, on PCI, ISA and memory-mapped."""

from coalesced.devices.vga.variants import IsaVga, PciVga, VgaMm
from coalesced.devices.vga.vga import Vga

__all__ = ["IsaVga", "PciVga", "Vga", "VgaMm"]
