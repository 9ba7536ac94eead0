"""The interval timer of a PC, an Intel 8254, with the speaker's port 0x61.

Names: Intel 8254 data sheet. Its answers follow QEMU 7.2's `isa-pit`: counting is binary
whatever the BCD bit says, the gate stops no counter, modes 6 and 7 are not 2 and 3, and a new mode
goes on from the count that was loaded before. A count is worked out when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import Clock, StateValue, Timer
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.region import Region

PIT_PORT: Final = 0x40
CONTROL: Final = 3
SPEAKER_PORT: Final = 0x61
FREQUENCY: Final = 1193182
"""In Hz, of all three counters."""
SECOND: Final = 1_000_000_000
TICK: Final = -(-SECOND // FREQUENCY)
"""In nanoseconds. A pulse of this length ends with its rise: no second alarm is set for it."""
SHORTEST_ALARM: Final = 100_000
"""Nanoseconds: a guest that asks for more interrupts gets them late, and some as one."""

READ_BACK: Final = 3
READ_BACK_NO_COUNT: Final = 0x20
READ_BACK_NO_STATUS: Final = 0x10
ACCESS_LATCH: Final = 0
ACCESS_LOW: Final = 1
ACCESS_HIGH: Final = 2
ACCESS_BOTH: Final = 3
STATUS_OUT: Final = 0x80

SPEAKER_GATE: Final = 0x01
SPEAKER_DATA: Final = 0x02
SPEAKER_REFRESH: Final = 0x10
SPEAKER_OUT: Final = 0x20
SPEAKER: Final = 2
"""The counter that the speaker's port gates and shows."""


class Counter:
    """One of the three counters."""

    def __init__(self, now: Callable[[], int], gate: bool) -> None:
        self._now = now
        self._gate_at_power_on = gate
        self.access, self.bcd = ACCESS_LATCH, 0
        self._low = 0  # written, and waits for the high byte
        self._reads_high = self._writes_high = False
        self._latched: list[int] = []  # bytes of a count
        self._status: int | None = None
        self.reset()

    def reset(self) -> None:
        """Square waves of 18.2 Hz. As in QEMU, the access mode and latched values stay."""
        self.mode = 3
        self.gate = self._gate_at_power_on
        self.count = 0x10000
        self.loaded_at = self._now()

    def state(self) -> bytes:
        """The settings of the guest."""
        flags = self._reads_high, self._writes_high, self._status is not None
        numbers = self.mode, self.access, self.bcd, self.gate, self._low, len(self._latched)
        return bytes((*numbers, *flags)) + self.count.to_bytes(3, "little")

    # --- time ---

    def ticks(self, time: int) -> int:
        """Ticks counted since the count was loaded, at a time."""
        return (time - self.loaded_at) * FREQUENCY // SECOND

    def _time(self, ticks: int) -> int:
        return self.loaded_at - (-ticks * SECOND // FREQUENCY)

    def value(self) -> int:
        """The present count, 16 bits."""
        ticks = self.ticks(self._now())
        if self.mode in {0, 1, 4, 5}:
            gone = ticks
        else:
            gone = (2 * ticks if self.mode == 3 else ticks) % self.count
        return (self.count - gone) & 0xFFFF

    def output(self, time: int) -> bool:
        """OUT at a time."""
        ticks = self.ticks(time)
        if self.mode == 1:
            return ticks < self.count
        if self.mode == 2:
            return ticks % self.count == 0 and ticks != 0
        if self.mode == 3:
            return ticks % self.count < self.count + 1 >> 1
        if self.mode in {4, 5}:
            return ticks == self.count
        return ticks >= self.count

    def next_change(self, time: int) -> int | None:
        """The next change of OUT after `time`; None for never."""
        ticks = self.ticks(time)
        into = ticks % self.count
        start = ticks - into
        if self.mode == 2:
            change = start + self.count if into or not ticks else start + 1
        elif self.mode == 3:
            half = self.count + 1 >> 1
            change = start + (half if into < half else self.count)
        elif ticks < self.count:
            change = self.count
        elif ticks == self.count and self.mode in {4, 5}:
            change = self.count + 1
        else:
            return None
        return self._time(change)

    # --- gate ---

    def set_gate(self, level: bool) -> None:
        """Drive GATE: a rise starts modes 1, 2, 3 and 5 anew."""
        if level and not self.gate and self.mode in {1, 2, 3, 5}:
            self.loaded_at = self._now()
        self.gate = level

    # --- registers ---

    def control(self, value: int) -> None:
        """A control word, which may be no more than a latch."""
        access = value >> 4 & 3
        if access == ACCESS_LATCH:
            self.latch_count()
            return
        self.access, self.mode, self.bcd = access, value >> 1 & 7, value & 1
        self._reads_high = self._writes_high = access == ACCESS_HIGH

    def latch_count(self) -> None:
        """Keep the count for the next reads."""
        if not self._latched and self.access != ACCESS_LATCH:
            both = self.value().to_bytes(2, "little")
            self._latched = [*{1: both[:1], 2: both[1:], 3: both}[self.access]]

    def latch_status(self) -> None:
        """Keep the status for the next read."""
        if self._status is None:
            out = STATUS_OUT if self.output(self._now()) else 0
            self._status = out | self.access << 4 | self.mode << 1 | self.bcd

    def read(self) -> int:
        """A byte: latched status, latched count, or the current count."""
        if self._status is not None:
            value, self._status = self._status, None
            return value
        if self._latched:
            return self._latched.pop(0)
        high = self._reads_high
        if self.access == ACCESS_BOTH:
            self._reads_high = not high
        return self.value() >> 8 * high & 0xFF

    def write(self, value: int) -> bool:
        """A byte of a new count; True when the count is whole, and begins."""
        if self.access == ACCESS_BOTH:
            self._writes_high = not self._writes_high
            if self._writes_high:
                self._low = value
                return False
            value = value << 8 | self._low
        elif self._writes_high:
            value <<= 8
        self.count = value or 0x10000
        self.loaded_at = self._now()
        return True


class I8254:
    """Ports 0x40 to 0x43 and 0x61; counter 0 drives ISA interrupt 0.

    The interrupt sets no alarm before the guest uses the timer or the interrupt controller, which
    calls `follow`: for guests that use neither, a machine without them stays as quiet.

    Of the writes none may be queued: a count begins when it is written, and a driver's delay
    would begin with the drain. Port 0x61 starts counter 2 in the same way.
    """

    name = "isa-pit"

    def __init__(self, clock: Clock, set_irq: Callable[[bool], None]) -> None:
        """`set_irq` drives the interrupt; it may be called without a change of the level."""
        self._clock = clock
        self._set_irq = set_irq
        self.counters = [Counter(clock.now, gate=number != SPEAKER) for number in range(3)]
        self._awake = self._high = False
        self._alarm: Timer | None = None
        self._speaker_data = self._refresh = False
        self._change = self.counters[0].next_change(clock.now())
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (PIT_PORT, byte_registers("pit", 4, self._read, self._write), 0),
            (SPEAKER_PORT, byte_registers("pcspk", 1, self._read_port, self._write_port), 0),
        ]

    def reset(self) -> None:
        """All counters as after power-on. The speaker's port keeps its bits, as in QEMU."""
        for counter in self.counters:
            counter.reset()
        self._change = self.counters[0].next_change(self._clock.now())
        self._set_alarm()

    def state(self) -> Mapping[str, StateValue]:
        """The settings of the guest, without counts that run or are latched."""
        counters = b"".join(counter.state() for counter in self.counters)
        return {"counters": counters, "speaker": bytes((self._speaker_data, self._refresh))}

    # --- the interrupt ---

    def follow(self) -> None:
        """Bring the interrupt line up to date; from now on it changes when that is due."""
        self._awake = True
        now, counter = self._clock.now(), self.counters[0]
        period = 2 * (counter.count * SECOND // FREQUENCY + 1)
        if self._change is not None and now - self._change > 2 * period:
            self._change = counter.next_change(now - period)  # of many ticks, one is as good
        while self._change is not None and self._change <= now + self._high * TICK:
            self._drive(self._change)
        self._set_alarm()

    def _drive(self, time: int) -> None:
        """Put the level of OUT at a time on the line."""
        self._high = self.counters[0].output(time)
        self._set_irq(self._high)
        self._change = self.counters[0].next_change(time)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._awake and self._change is not None:
            due = max(self._change, self._clock.now() + SHORTEST_ALARM)
            self._alarm = self._clock.call_at(due, self.follow)

    def _restart(self, number: int) -> None:
        if number == 0:
            self._drive(self._clock.now())
            self._set_alarm()

    # --- registers ---

    def _read(self, offset: int) -> int:
        return 0 if offset == CONTROL else self.counters[offset].read()

    def _write(self, offset: int, value: int) -> None:
        self.follow()
        if offset != CONTROL:
            if self.counters[offset].write(value):
                self._restart(offset)
        elif value >> 6 != READ_BACK:
            self.counters[value >> 6].control(value)
        else:
            self._read_back(value)

    def _read_back(self, value: int) -> None:
        for number, counter in enumerate(self.counters):
            if value & 2 << number:
                if not value & READ_BACK_NO_COUNT:
                    counter.latch_count()
                if not value & READ_BACK_NO_STATUS:
                    counter.latch_status()

    def _read_port(self, _offset: int) -> int:
        """The refresh bit changes with each read, as in QEMU, not with time."""
        self._refresh = not self._refresh
        counter = self.counters[SPEAKER]
        return (
            counter.gate * SPEAKER_GATE
            | self._speaker_data * SPEAKER_DATA
            | self._refresh * SPEAKER_REFRESH
            | counter.output(self._clock.now()) * SPEAKER_OUT
        )

    def _write_port(self, _offset: int, value: int) -> None:
        self._speaker_data = bool(value & SPEAKER_DATA)
        self.counters[SPEAKER].set_gate(bool(value & SPEAKER_GATE))
