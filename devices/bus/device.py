"""The interface of a chip to its machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

StateValue = int | bytes | memoryview


class Device(Protocol):
    """A chip on a machine's buses."""

    @property
    def name(self) -> str:
        """QEMU's name of the device, as in `-device NAME`."""

    def reset(self) -> None:
        """Put every register into its state after power-on."""

    def state(self) -> Mapping[str, StateValue]:
        """Registers, memories and palettes by name, without what derives from the clock.

        Two devices with equal states answer equal accesses equally. A memoryview may alias the
        device's memory: read it before the device runs on.
        """
