"""The registers of ACPI's power management: events, control, and a timer of 24 bits.

Register names: ACPI 6.0, 4.8.3. What they answer follows QEMU 7.2, in which the power-management
timer counts from the start of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coalesced.devices.bus.device import Clock
from coalesced.devices.bus.narrow_registers import aligned_registers
from coalesced.devices.bus.timed_line import TimedLine

TIMER_FREQUENCY: Final = 3579545
SECOND: Final = 1_000_000_000
TIMER_MASK: Final = 0xFF_FFFF
TIMER_HALF: Final = 0x80_0000
"""The timer's status is set whenever its highest bit changes."""

STATUS_TIMER: Final = 0x0001
STATUS_INTERRUPTS: Final = 0x0521
"""Timer, global lock, power button and clock: with their enable bits they raise the SCI."""
CONTROL_SCI_ENABLE: Final = 0x0001
CONTROL_SLEEP_TYPE_SHIFT: Final = 10
CONTROL_SLEEP: Final = 0x2000
"""Written as 1, it puts the machine to sleep."""


class AcpiPm:
    """PM1 event, PM1 control and PM timer: three regions, and the SCI.

    None of their writes may be queued: they end an interrupt or turn the machine off.
    """

    def __init__(
        self,
        clock: Clock,
        set_sci: Callable[[bool], None],
        sleep: Callable[[int], None],
    ) -> None:
        """`sleep` is called with the type, 0 to 7, of a sleep that the guest asks for."""
        self._clock = clock
        self._sci = TimedLine(set_sci, clock.call_at)
        self._sleep = sleep
        self._clear()
        self.events = aligned_registers("acpi-evt", 4, 2, self._read_events, self._write_events)
        self.control = aligned_registers("acpi-cnt", 2, 2, self._read_control, self._write_control)
        self.timer = aligned_registers("acpi-tmr", 4, 4, self._read_timer, _ignore)

    def _clear(self) -> None:
        self._status = self._enabled = self._control = 0
        self._overflow = 0  # the timer's next change of its highest bit, in ticks

    def reset(self) -> None:
        """No events, none enabled."""
        self._clear()
        self._update()

    def state(self) -> bytes:
        """The registers, without the timer and its status."""
        words = self._status & ~STATUS_TIMER, self._enabled, self._control
        return b"".join(word.to_bytes(2, "little") for word in words)

    def enable(self, level: bool) -> None:
        """Say whether the SCI takes the place of the SMI, as the SMI command port asks for."""
        self._control = self._control & ~CONTROL_SCI_ENABLE | level * CONTROL_SCI_ENABLE

    # --- time ---

    def ticks(self, time: int | None = None) -> int:
        """The timer at a time, by default now, with more bits than it has."""
        return (self._clock.now() if time is None else time) * TIMER_FREQUENCY // SECOND

    def _present_status(self) -> int:
        if self.ticks() >= self._overflow:
            self._status |= STATUS_TIMER
        return self._status

    def _update(self) -> None:
        """Drive the SCI; where the timer could raise it, that is an alarm."""
        status = self._present_status()
        due = None
        if self._enabled & ~status & STATUS_TIMER:
            due = -(-self._overflow * SECOND // TIMER_FREQUENCY)
        self._sci.drive(bool(status & self._enabled & STATUS_INTERRUPTS), due, self._update)

    def _read_timer(self, offset: int, size: int) -> int:
        return self.ticks() & TIMER_MASK  # from its lowest byte, wherever the access begins

    # --- registers ---

    def _read_events(self, offset: int, size: int) -> int:
        return {0: self._present_status(), 2: self._enabled}.get(offset, 0)

    def _write_events(self, offset: int, size: int, value: int) -> None:
        if offset == 0:
            self._write_status(value)
        elif offset == 2:
            self._enabled = value
            self._update()

    def _write_status(self, value: int) -> None:
        """A one clears an event."""
        if self._present_status() & value & STATUS_TIMER:
            self._overflow = (self.ticks() + TIMER_HALF) & -TIMER_HALF
        self._status &= ~value
        self._update()

    def _read_control(self, offset: int, size: int) -> int:
        return self._control

    def _write_control(self, offset: int, size: int, value: int) -> None:
        self._control = value & ~CONTROL_SLEEP
        if value & CONTROL_SLEEP:
            self._sleep(value >> CONTROL_SLEEP_TYPE_SHIFT & 7)


def _ignore(_offset: int, _size: int, _value: int) -> None:
    """The timer cannot be written."""
