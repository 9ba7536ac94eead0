"""The limit of one turn of the card, after which the machine gets its own turn.

A guest can ask for hours of work by one write of a register: rings of 65,528 descriptors, each of
65,535 segments or with a buffer in a device's registers. Work is counted instead of timed, so that
a run can be repeated. What is left over is done in later turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

TURN: Final = 8 << 20
"""Units of work in a turn of 10 to 20 ms. Copying a byte is one unit; the costs below are the bytes
that could be copied in the same time."""
DESCRIPTOR: Final = 2048
FRAME: Final = 4096
ACCESS: Final = 512
"""An access to a device that the card's DMA makes."""


class Budget:
    """Counts the work of a turn."""

    def __init__(self, accesses: Callable[[], int]) -> None:
        """`accesses()`: how many accesses to devices the card's DMA has made so far."""
        self._accesses = accesses
        self._left = TURN
        self._start = 0

    def begin(self) -> None:
        """A new turn begins."""
        self._left = TURN
        self._start = self._accesses()

    def spend(self, frames: int = 0, size: int = 0, descriptors: int = 0) -> None:
        """Count frames, their bytes, and descriptors that were looked at one by one."""
        self._left -= frames * FRAME + size + descriptors * DESCRIPTOR

    @property
    def spent(self) -> bool:
        """True when the turn is over."""
        return self._left <= (self._accesses() - self._start) * ACCESS
