"""Interrupt lines, from a chip's pin to whoever delivers interrupts."""

from __future__ import annotations

from collections.abc import Callable


class InterruptLine:
    """One level-triggered line. Raising a raised line, or lowering a lowered one, does nothing."""

    __slots__ = ("_level", "_sink", "number")

    def __init__(self, number: int, sink: Callable[[int, bool], None]) -> None:
        """`sink(number, level)` is called on each change of the level."""
        self.number = number
        self._sink = sink
        self._level = False

    @property
    def level(self) -> bool:
        return self._level

    def set(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._sink(self.number, level)
