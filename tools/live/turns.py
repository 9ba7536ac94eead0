"""The turns of a guest that is held."""

from __future__ import annotations

import time
from collections.abc import Callable


class Turns:
    """A held guest takes single turns, or turns at a rate; a free one runs at full speed."""

    def __init__(self) -> None:
        self.waiting = False
        """Whether the guest waits for its turn."""
        self.free = False
        """Whether it runs at full speed."""
        self.rate: float | None = None
        """Turns a second while it is held; None: only those of `step`."""
        self.taken = 0
        """Turns that it took while it was held."""
        self.on_step: Callable[[], None] = lambda: None
        """Called when the guest begins to wait."""
        self._wanted = 0
        self._due = 0.0

    def _turn(self) -> float | None:
        """Seconds until a held guest may go on; 0: now, which counts; None: nobody wants it."""
        if self.rate is not None:
            now = time.monotonic()
            if now < self._due:
                return self._due - now
            self._due = now + 1 / self.rate
            return 0.0
        if not self._wanted:
            return None
        self._wanted -= 1
        return 0.0
