"""Causes, mask and throttle of the card's interrupt.

Source: 8254x manual, sections 13.4.17 to 13.4.21 and 3.2.7.1. The throttle is QEMU 7.2's: raising
the line starts a time in which it may fall, but not rise again. That time is the shortest of the
delays that apply, at least LEAST_DELAY.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coalesced.devices.e1000.registers import (
    ICR,
    IMS,
    INT_RXT0,
    INT_TXDW,
    INT_TXQE,
    ITR,
    RADV,
    RDTR,
    TADV,
    RegisterFile,
)

if TYPE_CHECKING:
    from coalesced.devices.bus.device import Clock, Timer

ITR_UNIT: Final = 256
"""Nanoseconds of a unit of ITR."""
ADV_UNITS: Final = 4
"""Units of ITR in one of TADV or RADV: 1,024 ns."""
LEAST_DELAY: Final = 500
"""Units of ITR: no more than 7,813 interrupts a second."""


class Interrupts:
    """ICR and IMS, and the line that follows them."""

    def __init__(
        self,
        registers: RegisterFile,
        set_line: Callable[[bool], None],
        clock: Callable[[], Clock],
    ) -> None:
        """`set_line` drives the function's pin; `clock()` is the machine's."""
        self._registers = registers
        self._set_line = set_line
        self._clock = clock
        self._level = False
        self._throttle: Timer | None = None
        self.transmit_delayed = False
        """True when a transmit descriptor asked for the delay (IDE) since the last interrupt."""

    def reset(self) -> None:
        """No cause, no mask, no throttle; the pin falls with the function's own reset."""
        if self._throttle is not None:
            self._throttle.cancel()
            self._throttle = None
        self._level = False
        self.transmit_delayed = False

    def add(self, causes: int) -> None:
        """Set causes; the line follows. Also a mask that changed is seen here."""
        self._update(self._registers[ICR] | causes)

    def take(self) -> int:
        """Read ICR: all causes, which it clears."""
        causes = self._registers[ICR]
        self._update(0)
        return causes

    def clear(self, causes: int) -> None:
        """Write ICR."""
        self._update(self._registers[ICR] & ~causes)

    def _update(self, causes: int) -> None:
        registers = self._registers
        registers[ICR] = causes
        pending = causes & registers[IMS]
        if pending and not self._level:
            if self._throttle is not None:
                return
            due = self._clock().now() + self._delay(pending) * ITR_UNIT
            self._throttle = self._clock().call_at(due, self._throttle_ends)
            self.transmit_delayed = False
        level = bool(pending)
        if level != self._level:
            self._level = level
            self._set_line(level)

    def _delay(self, pending: int) -> int:
        registers = self._registers
        delay = registers[ITR]
        if self.transmit_delayed and pending & (INT_TXQE | INT_TXDW):
            delay = _shorter(delay, registers[TADV] * ADV_UNITS)
        if registers[RDTR] and pending & INT_RXT0:
            delay = _shorter(delay, registers[RADV] * ADV_UNITS)
        return delay if delay > LEAST_DELAY else LEAST_DELAY

    def _throttle_ends(self) -> None:
        self._throttle = None
        self.add(0)


def _shorter(delay: int, other: int) -> int:
    """The shorter delay; 0 is none."""
    return min(delay, other) if delay and other else delay or other
