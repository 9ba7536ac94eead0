"""The VGA: ports, planar memory, picture."""

from devices.vga.vga import Vga

__all__ = ["Vga"]
