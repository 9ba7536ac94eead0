"""The Cirrus Logic CL-GD5446: a VGA with linear video memory and a blitter."""

from coalesced.devices.cirrus.device import CirrusVga, IsaCirrusVga

__all__ = ["CirrusVga", "IsaCirrusVga"]
