"""The clock of the devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due at a time."""

    def cancel(self) -> None:
        """Cancel the call; does nothing once it was made."""


class Clock(Protocol):
    """QEMU's virtual clock: nanoseconds since the start of the machine."""

    def now(self) -> int:
        """Nanoseconds."""

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        """Call once when the clock has reached `due` nanoseconds, never before this returns."""
