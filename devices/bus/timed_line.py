"""An interrupt line whose next change is known beforehand."""

from __future__ import annotations

from collections.abc import Callable

from coalesced.devices.bus.device import Timer


class TimedLine:
    """A line, and a single alarm."""

    def __init__(
        self,
        set_level: Callable[[bool], None],
        call_at: Callable[[int, Callable[[], None]], Timer],
    ) -> None:
        """`call_at(due, call)` makes a call once, as `Clock.call_at` does."""
        self._set_level = set_level
        self._call_at = call_at
        self._alarm: Timer | None = None

    def drive(self, level: bool, due: int | None, call: Callable[[], None]) -> None:
        """Set the level; `call` when the next change is due, instead of what was awaited before.

        `due`: by the time of `call_at`; None for never.
        """
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if due is None else self._call_at(due, call)
        self._set_level(level)
