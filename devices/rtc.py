"""The real-time clock of a PC: an MC146818 with 128 bytes of CMOS behind an index and a data port.

Register names: Motorola MC146818 data sheet. What sticks and when flags are set follows QEMU 7.2's
`mc146818rtc`, but for two things that QEMU does and the chip cannot: there an alarm is a number, so
that hours that do not exist come true, and those of the afternoon at other times; and periods go on
while the divider is held in reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.region import Region
from coalesced.devices.bus.timed_line import TimedLine
from coalesced.devices.gregorian import civil_from_days, days_from_civil

INDEX_PORT: Final = 0x70
DATA_PORT: Final = 0x71
CMOS_SIZE: Final = 128

SECONDS: Final = 0x00
SECONDS_ALARM: Final = 0x01
MINUTES: Final = 0x02
MINUTES_ALARM: Final = 0x03
HOURS: Final = 0x04
HOURS_ALARM: Final = 0x05
DAY_OF_WEEK: Final = 0x06
DAY_OF_MONTH: Final = 0x07
MONTH: Final = 0x08
YEAR: Final = 0x09
REG_A: Final = 0x0A
REG_B: Final = 0x0B
REG_C: Final = 0x0C
REG_D: Final = 0x0D
CENTURY: Final = 0x32
PS2_CENTURY: Final = 0x37
"""Another name of CENTURY, as in QEMU."""

A_UIP: Final = 0x80
A_DIVIDER: Final = 0x70
A_DIVIDER_RESET: Final = 0x60
"""These two divider bits together hold the clock, and all of its flags."""
A_DIVIDER_32768_HZ: Final = 0x20
"""With a higher one QEMU counts seconds, but a read does not bring the registers up to date."""
A_RATE: Final = 0x0F
B_SET: Final = 0x80
B_PIE: Final = 0x40
B_AIE: Final = 0x20
B_UIE: Final = 0x10
B_ENABLES: Final = B_PIE | B_AIE | B_UIE
"""The bits of C_PF, C_AF and C_UF."""
B_SQWE: Final = 0x08
B_DM: Final = 0x04
"""Numbers are binary (1) or two decimal digits (0)."""
B_24H: Final = 0x02
C_IRQF: Final = 0x80
C_PF: Final = 0x40
C_AF: Final = 0x20
C_UF: Final = 0x10
D_VRT: Final = 0x80
SHUTDOWN: Final = 0x0F  # tells firmware what to do after a reset (IBM's AT)

PM: Final = 0x80
DONT_CARE: Final = 0xC0
DAY: Final = 86400
CRYSTAL_HZ: Final = 32768
SECOND: Final = 1_000_000_000  # nanoseconds, as all times here
UIP_LENGTH: Final = 8 * SECOND // CRYSTAL_HZ
"""Nanoseconds for which UIP announces a new second."""

_TIME: Final = frozenset((SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, CENTURY))


class Mc146818:
    """Ports 0x70 and 0x71. The index port is coalesced: only the data port uses it, and flushes.

    The flags of register C are worked out when somebody looks, or when one is due that interrupts.
    """

    name = "mc146818rtc"

    def __init__(
        self,
        now: Callable[[], int],
        cmos: Mapping[int, int] | None = None,
        line: TimedLine | None = None,
    ) -> None:
        """`now` is the time source: nanoseconds since 1970 in UTC, not going backwards.

        `cmos` has bytes (0 to 255) that firmware would find, by index 0x0e to 0x7f. `line`: the
        interrupt, which goes by the same time.
        """
        self._now = now
        self._line = line
        self._offset = 0  # from `now` to what the guest has set
        self._fraction = now() % SECOND  # of a second that is over whenever the guest sets the time
        self._update_due: int | None = None  # when the next flags of an update are set, by `now`
        self._alarm_due: int | None = None  # the update at which the alarm goes off
        self._period_due: int | None = None
        self.index = 0
        self._cmos = bytearray(CMOS_SIZE)
        self._cmos[REG_A] = 0x26  # 32,768 Hz crystal, 1,024 Hz periodic rate
        self._cmos[REG_B] = B_24H
        self._cmos[REG_D] = D_VRT
        self._counted: set[int] = set()  # registers whose bytes are the clock's, not the guest's
        for index, value in (cmos or {}).items():
            if not REG_D < index < CMOS_SIZE:
                raise ValueError(f"expected CMOS bytes of 0x0e to 0x7f, got {index:#x}")
            self._cmos[index] = value
        self._await_update()
        at_once = Region("rtc", 1, self._read_data, self._write_data, flush=True)
        queued = Region("rtc-index", 1, self._read_index, self._write_index, coalesced=((0, 1),))
        ports: list[tuple[int, Region, int]] = [(INDEX_PORT, queued, 0), (DATA_PORT, at_once, 0)]
        self.legacy_ports = ports

    def reset(self) -> None:
        """Disable interrupts, clear their flags and the shutdown status; the rest stays.

        As in QEMU, a period that had begun still ends with its flag.
        """
        self._catch_up()
        self._cmos[REG_B] &= ~(B_PIE | B_AIE | B_SQWE)
        self._cmos[REG_C] = 0
        self._cmos[SHUTDOWN] = 0
        self._await_update()
        self._drive()

    def state(self) -> Mapping[str, StateValue]:
        """Index and CMOS, without what the clock has counted, held or not, and register C."""
        cmos = bytearray(self._cmos)
        cmos[REG_C] = 0
        for index in _TIME if self._running else self._counted:
            cmos[index] = 0
        return {"index": self.index, "cmos": bytes(cmos)}

    # --- ports ---

    def _read_index(self, offset: int, size: int) -> int:
        return 0xFF  # it cannot be read

    def _write_index(self, offset: int, size: int, value: int) -> None:
        self.index = value & (CMOS_SIZE - 1)

    def _read_data(self, offset: int, size: int) -> int:
        index = CENTURY if self.index == PS2_CENTURY else self.index
        self._catch_up()
        if index == REG_C:
            return self._take_flags()
        if index in _TIME and self._running:
            self._store_time()
        value = self._cmos[index]
        if index == REG_A and self._running and self._time() % SECOND >= SECOND - UIP_LENGTH:
            value |= A_UIP
        return value

    def _write_data(self, offset: int, size: int, value: int) -> None:
        index = CENTURY if self.index == PS2_CENTURY else self.index
        value &= 0xFF
        if index in {REG_C, REG_D}:
            return
        self._catch_up()
        if index in {REG_A, REG_B}:
            self._write_control(index, value)
            return
        self._cmos[index] = value
        if index in _TIME:
            self._counted.discard(index)
            if self._running:
                # QEMU sets the whole time, the other registers being as they were read last.
                self._set_time()
                self._await_update()
        elif index in {SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM}:
            self._await_update()
        self._drive()

    def _write_control(self, index: int, value: int) -> None:
        """Write register A or B, either of which may stop the clock or start it again."""
        old_a, old_b, old_period = self._cmos[REG_A], self._cmos[REG_B], self._period
        if index == REG_A:
            reg_a, reg_b = value & ~A_UIP, old_b
        else:
            reg_a, reg_b = old_a, value & ~B_UIE if value & B_SET else value
        if self._running and not _runs(reg_a, reg_b):
            self._store_time()
        elif reg_a & A_DIVIDER <= A_DIVIDER_32768_HZ and not reg_b & B_SET:
            # The registers still hold the old format.
            if old_b & B_SET:
                self._fraction = self._time() % SECOND
                self._set_time()
            elif old_a & A_DIVIDER_RESET == A_DIVIDER_RESET:
                # Half a second after the divider starts, the first second is over.
                self._fraction = SECOND // 2
                self._set_time()
        self._cmos[REG_A], self._cmos[REG_B] = reg_a, reg_b
        changed = (old_a ^ reg_a) & A_RATE if index == REG_A else (old_b ^ reg_b) & B_PIE
        if changed:
            self._start_period(old_period)
        self._await_update()
        self._drive()

    # --- time ---

    @property
    def _running(self) -> bool:
        return _runs(self._cmos[REG_A], self._cmos[REG_B])

    @property
    def _held(self) -> bool:
        """True while the divider is in reset."""
        return self._cmos[REG_A] & A_DIVIDER_RESET == A_DIVIDER_RESET

    def _time(self) -> int:
        """Time since 1970 on the guest's clock, if it runs."""
        return self._now() + self._offset

    def _store_time(self, time: int | None = None) -> None:
        """Put the running time into its registers, in the format that register B asks for."""
        days, second = divmod((self._time() if time is None else time) // SECOND, DAY)
        year, month, day = civil_from_days(days)
        self._cmos[SECONDS] = self._encode(second % 60)
        self._cmos[MINUTES] = self._encode(second // 60 % 60)
        self._cmos[HOURS] = self._encode_hour(second // 3600)
        self._cmos[DAY_OF_WEEK] = self._encode((days + 4) % 7 + 1)  # 1970 began on a Thursday
        self._cmos[DAY_OF_MONTH] = self._encode(day)
        self._cmos[MONTH] = self._encode(month)
        self._cmos[YEAR] = self._encode(year % 100)
        self._cmos[CENTURY] = self._encode(year // 100 % 100)
        self._counted.update(_TIME)

    def _set_time(self) -> None:
        """Go on from the time in the registers.

        Dates and times that do not exist count on from the last that does, as in QEMU.
        """
        cmos = self._cmos
        year = self._decode(cmos[CENTURY]) * 100 + self._decode(cmos[YEAR])
        days = days_from_civil(year, self._decode(cmos[MONTH]), self._decode(cmos[DAY_OF_MONTH]))
        self._offset = (days * DAY + self._second_of_day()) * SECOND + self._fraction - self._now()

    def _second_of_day(self) -> int:
        """Second of the day by the registers."""
        hour = self._decode(self._cmos[HOURS] & 0x7F)
        if not self._cmos[REG_B] & B_24H:
            hour = hour % 12 + (12 if self._cmos[HOURS] & PM else 0)
        minute, second = (self._decode(self._cmos[at]) for at in (MINUTES, SECONDS))
        return hour * 3600 + minute * 60 + second

    def _encode(self, number: int) -> int:
        if self._cmos[REG_B] & B_DM:
            return number
        return number // 10 << 4 | number % 10

    def _encode_hour(self, hour: int) -> int:
        if self._cmos[REG_B] & B_24H:
            return self._encode(hour)
        return self._encode(hour % 12 or 12) | (PM if hour >= 12 else 0)

    def _decode(self, code: int) -> int:
        if self._cmos[REG_B] & B_DM:
            return code
        if code & DONT_CARE == DONT_CARE:
            return -1  # QEMU takes the alarm's "any" for this number even in a time
        return (code >> 4) * 10 + (code & 0x0F)

    # --- interrupt flags ---

    def _take_flags(self) -> int:
        """Read register C, which clears it."""
        flags = self._cmos[REG_C]
        self._cmos[REG_C] = 0
        if flags & (C_UF | C_AF):
            self._await_update()
        self._drive()
        return flags | C_IRQF if flags & self._cmos[REG_B] & B_ENABLES else flags

    def _drive(self) -> None:
        """Drive the interrupt, and await the next flag that raises it."""
        if self._line is None:
            return
        flags, enabled = self._cmos[REG_C], self._cmos[REG_B] & B_ENABLES
        ends = ((C_PF, self._period_due), (C_AF, self._alarm_due), (C_UF, self._update_due))
        awaited = [due for flag, due in ends if due is not None and enabled & ~flags & flag]
        self._line.drive(bool(flags & enabled), min(awaited, default=None), self._ring)

    def _ring(self) -> None:
        self._catch_up()
        self._drive()

    def _catch_up(self) -> None:
        """Note what has happened since the last look: updates, alarms, periods."""
        now = self._now()
        while self._update_due is not None and self._update_due <= now:
            due = self._update_due
            if not self._cmos[REG_B] & B_SET:
                self._store_time(due + self._offset)
            self._cmos[REG_C] |= C_UF
            if self._alarm_due is not None and self._alarm_due <= due:
                self._cmos[REG_C] |= C_AF
            self._await_update(due)
        if self._period_due is not None and self._period_due <= now:
            if not self._held:
                self._cmos[REG_C] |= C_PF
            self._go_on_with_periods(now)

    def _await_update(self, now: int | None = None) -> None:
        """Work out when an update changes the flags next.

        While SET holds the time, QEMU's seconds still end, and flag what would have been reached.
        """
        self._update_due = self._alarm_due = None
        if self._held:
            return
        now = self._now() if now is None else now
        if not self._cmos[REG_B] & B_SET:
            self._store_time(now + self._offset)
        update = now + SECOND - (now + self._offset) % SECOND
        wait = self._seconds_to_alarm()
        if wait is not None:
            self._alarm_due = update + (wait - 1) * SECOND
        if not self._cmos[REG_C] & C_UF:
            self._update_due = update
        elif not self._cmos[REG_B] & B_SET and not self._cmos[REG_C] & C_AF:
            self._update_due = self._alarm_due

    def _seconds_to_alarm(self) -> int | None:
        """From the time in the registers, 1 to 86,400; None when it never comes.

        The chip compares bytes: an alarm whose bytes no time has does not go off.
        """
        seconds = self._alarm_numbers(SECONDS_ALARM, 60, self._encode)
        minutes = self._alarm_numbers(MINUTES_ALARM, 60, self._encode)
        hours = self._alarm_numbers(HOURS_ALARM, 24, self._encode_hour)
        if not seconds or not minutes or not hours:
            return None
        now = self._second_of_day() % DAY
        for minute in range(now // 60, now // 60 + DAY // 60 + 1):
            if minute % 60 in minutes and minute // 60 % 24 in hours:
                found = next((s for s in seconds if minute * 60 + s > now), None)
                if found is not None:
                    return minute * 60 + found - now
        return None

    def _alarm_numbers(self, at: int, count: int, encode: Callable[[int], int]) -> list[int]:
        """The seconds, minutes or hours of an alarm, in ascending order."""
        code = self._cmos[at]
        if code & DONT_CARE == DONT_CARE:
            return list(range(count))
        return [number for number in range(count) if encode(number) == code]

    # --- periods ---

    @property
    def _period(self) -> int:
        """In ticks of the crystal; 0 for none."""
        rate = self._cmos[REG_A] & A_RATE
        if not rate or not self._cmos[REG_B] & B_PIE:
            return 0
        # The two fastest rates of this crystal are those of codes 8 and 9.
        return 1 << (rate + 6 if rate <= 2 else rate - 1)

    def _start_period(self, old_period: int) -> None:
        """The rate has changed: the time since the last period's end counts for the new one."""
        period = self._period
        if not period:
            self._period_due = None
            return
        tick = _ticks(self._now())
        over = 0
        if old_period and self._period_due is not None:
            over = min(tick - (_ticks(self._period_due) - old_period), period)
        self._period_due = _end_of_tick(tick + period - over)

    def _go_on_with_periods(self, now: int) -> None:
        """A period ended: find the first that has not."""
        period, due = self._period, self._period_due
        if not period or due is None:
            self._period_due = None
            return
        tick = _ticks(due) + period
        if _end_of_tick(tick) <= now:
            tick += -(-(_ticks(now) - tick) // period) * period
            while _end_of_tick(tick) <= now:
                tick += period
        self._period_due = _end_of_tick(tick)


def _runs(reg_a: int, reg_b: int) -> bool:
    return not reg_b & B_SET and reg_a & A_DIVIDER <= A_DIVIDER_32768_HZ


def _ticks(time: int) -> int:
    """Of the crystal, since 1970."""
    return time * CRYSTAL_HZ // SECOND


def _end_of_tick(tick: int) -> int:
    """The first nanosecond after the beginning of a tick."""
    return tick * SECOND // CRYSTAL_HZ + 1
