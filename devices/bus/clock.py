"""The time that devices go by, as they see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due at a time."""

    def cancel(self) -> None:
        """Take it back; nothing happens when it was made already."""


class Clock(Protocol):
    """QEMU's virtual clock: nanoseconds since the start of the machine."""

    def now(self) -> int:
        """Nanoseconds."""

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        """Call once when the clock has reached `due` nanoseconds, never before this returns."""
