"""The real-time clock of a PC: an MC146818 with 128 bytes of CMOS behind an index and a data port.

Register names: Motorola MC146818 data sheet. What sticks follows QEMU 7.2's `mc146818rtc`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from devices.bus.device import StateValue
from devices.bus.region import Region

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
A_DIVIDER_RESET: Final = 0x60
"""These two divider bits together hold the clock."""
A_RATE: Final = 0x0F
B_SET: Final = 0x80
B_PIE: Final = 0x40
B_AIE: Final = 0x20
B_UIE: Final = 0x10
B_SQWE: Final = 0x08
B_DM: Final = 0x04
"""Numbers are binary (1) or two decimal digits (0)."""
B_24H: Final = 0x02
C_IRQF: Final = 0x80
C_PF: Final = 0x40
C_AF: Final = 0x20
C_UF: Final = 0x10
D_VRT: Final = 0x80

PM: Final = 0x80
DONT_CARE: Final = 0xC0
DAY: Final = 86400
CRYSTAL_HZ: Final = 32768
UIP_SECONDS: Final = 244e-6
"""How long before a new second UIP announces it."""

_TIME: Final = (SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, CENTURY)
_TIME_SET: Final = frozenset(_TIME)
_UNREADABLE: Final = 0xFF


class Mc146818:
    """Ports 0x70 and 0x71. The index port is coalesced: only the data port uses it, and flushes.

    The interrupt flags of register C are worked out when somebody looks; no line is raised.
    """

    name = "mc146818rtc"

    def __init__(self, now: Callable[[], float], cmos: Mapping[int, int] | None = None) -> None:
        """`now` is the time source: seconds since 1970 in UTC, not going backwards.

        `cmos` has bytes (0 to 255) that firmware would find, by index 0x0e to 0x7f.
        """
        self._now = now
        self._offset = 0.0  # seconds from `now` to what the guest has set
        self.index = 0
        self._cmos = bytearray(CMOS_SIZE)
        self._cmos[REG_A] = 0x26  # 32,768 Hz crystal, 1,024 Hz periodic rate
        self._cmos[REG_B] = B_24H
        self._cmos[REG_D] = D_VRT
        for index, value in (cmos or {}).items():
            if not REG_D < index < CMOS_SIZE:
                raise ValueError(f"expected CMOS bytes of 0x0e to 0x7f, got {index:#x}")
            self._cmos[index] = value
        self._flags_at = self._time()
        self.legacy_ports = [
            (
                INDEX_PORT,
                Region("rtc-index", 1, self._read_index, self._write_index, coalesced=((0, 1),)),
                0,
            ),
            (DATA_PORT, Region("rtc", 1, self._read_data, self._write_data, flush=True), 0),
        ]

    def reset(self) -> None:
        """Disable interrupts and drop their flags; time and CMOS are kept by the battery."""
        self._cmos[REG_B] &= ~(B_PIE | B_AIE | B_SQWE)
        self._cmos[REG_C] = 0
        self._flags_at = self._time()

    def state(self) -> Mapping[str, StateValue]:
        """Index and CMOS, without what the clock counts: the running time and register C."""
        cmos = bytearray(self._cmos)
        cmos[REG_C] = 0
        if self._running:
            for index in _TIME:
                cmos[index] = 0
        return {"index": self.index, "cmos": bytes(cmos)}

    # --- ports ---

    def _read_index(self, offset: int, size: int) -> int:
        return _UNREADABLE

    def _write_index(self, offset: int, size: int, value: int) -> None:
        self.index = value & (CMOS_SIZE - 1)

    def _read_data(self, offset: int, size: int) -> int:
        index = CENTURY if self.index == PS2_CENTURY else self.index
        if index == REG_C:
            return self._take_flags()
        if index in _TIME_SET and self._running:
            self._store_time()
        value = self._cmos[index]
        if index == REG_A and self._running and self._time() % 1 >= 1 - UIP_SECONDS:
            value |= A_UIP
        return value

    def _write_data(self, offset: int, size: int, value: int) -> None:
        index = CENTURY if self.index == PS2_CENTURY else self.index
        value &= 0xFF
        if index in {REG_C, REG_D}:
            return
        if index <= REG_B or index == CENTURY:
            self._collect_flags()
        if index in {REG_A, REG_B}:
            self._write_control(index, value)
        elif index in _TIME_SET and self._running:
            self._store_time()
            self._cmos[index] = value
            self._set_time(self._time() % 1)
        else:
            self._cmos[index] = value

    def _write_control(self, index: int, value: int) -> None:
        """Write register A or B, either of which may stop the clock or start it again."""
        if index == REG_A:
            reg_a, reg_b = value & ~A_UIP, self._cmos[REG_B]
        else:
            reg_a, reg_b = self._cmos[REG_A], value & ~B_UIE if value & B_SET else value
        if self._running:
            self._store_time()
        elif _runs(reg_a, reg_b):
            # What the registers hold is in the old format still.
            # Half a second after the divider starts, the first second is over.
            self._set_time(0.5 if index == REG_A else self._time() % 1)
        self._cmos[REG_A], self._cmos[REG_B] = reg_a, reg_b

    # --- time ---

    @property
    def _running(self) -> bool:
        return (
            not self._cmos[REG_B] & B_SET and self._cmos[REG_A] & A_DIVIDER_RESET != A_DIVIDER_RESET
        )

    def _time(self) -> float:
        """Seconds since 1970 on the guest's clock, if it runs."""
        return self._now() + self._offset

    def _store_time(self) -> None:
        """Put the running time into its registers, in the format that register B asks for."""
        days, second = divmod(math.floor(self._time()), DAY)
        year, month, day = _civil_from_days(days)
        hour = second // 3600
        if self._cmos[REG_B] & B_24H:
            hour_code = self._encode(hour)
        else:
            hour_code = self._encode(hour % 12 or 12) | (PM if hour >= 12 else 0)
        self._cmos[SECONDS] = self._encode(second % 60)
        self._cmos[MINUTES] = self._encode(second // 60 % 60)
        self._cmos[HOURS] = hour_code
        self._cmos[DAY_OF_WEEK] = self._encode((days + 4) % 7 + 1)  # 1970 began on a Thursday
        self._cmos[DAY_OF_MONTH] = self._encode(day)
        self._cmos[MONTH] = self._encode(month)
        self._cmos[YEAR] = self._encode(year % 100)
        self._cmos[CENTURY] = self._encode(year // 100 % 100)

    def _set_time(self, fraction: float) -> None:
        """Go on from the time in the registers, `fraction` of its second being over.

        Dates and times that do not exist count on from the last that does, as in QEMU.
        """
        cmos = self._cmos
        year = self._decode(cmos[CENTURY]) * 100 + self._decode(cmos[YEAR])
        days = _days_from_civil(year, self._decode(cmos[MONTH]), self._decode(cmos[DAY_OF_MONTH]))
        seconds = (
            days * DAY
            + self._hour(cmos[HOURS]) * 3600
            + self._decode(cmos[MINUTES]) * 60
            + self._decode(cmos[SECONDS])
        )
        self._offset = seconds + fraction - self._now()
        self._flags_at = seconds + fraction

    def _hour(self, code: int) -> int:
        hour = self._decode(code & 0x7F)
        if not self._cmos[REG_B] & B_24H:
            hour = hour % 12 + (12 if code & PM else 0)
        return hour

    def _encode(self, number: int) -> int:
        if self._cmos[REG_B] & B_DM:
            return number
        return number // 10 << 4 | number % 10

    def _decode(self, code: int) -> int:
        if self._cmos[REG_B] & B_DM:
            return code
        if code & DONT_CARE == DONT_CARE:
            return -1  # QEMU takes the alarm's "any" for this number even in a time
        return (code >> 4) * 10 + (code & 0x0F)

    # --- interrupt flags ---

    def _take_flags(self) -> int:
        """Read register C, which clears it."""
        self._collect_flags()
        flags = self._cmos[REG_C]
        self._cmos[REG_C] = 0
        enabled = self._cmos[REG_B] & (B_PIE | B_AIE | B_UIE)  # the bits of C_PF, C_AF, C_UF
        return flags | C_IRQF if flags & enabled else flags

    def _collect_flags(self) -> None:
        """Note what has happened since the last look: updates, alarms, periods."""
        since, now = self._flags_at, self._time()
        self._flags_at = now
        if not self._running or now <= since:
            return
        if math.floor(now) > math.floor(since):
            self._cmos[REG_C] |= C_UF
            if self._alarm_between(math.floor(since) + 1, math.floor(now)):
                self._cmos[REG_C] |= C_AF
        rate = self._cmos[REG_A] & A_RATE
        if rate and self._cmos[REG_B] & B_PIE:
            # The two fastest rates of this crystal are those of codes 8 and 9.
            period = (1 << (rate + 6 if rate <= 2 else rate - 1)) / CRYSTAL_HZ
            if now // period > since // period:
                self._cmos[REG_C] |= C_PF

    def _alarm_between(self, first: int, last: int) -> bool:
        """Whether one of the seconds from `first` to `last` is the alarm's."""
        cmos = self._cmos
        second, minute, hour = (
            None if cmos[at] & DONT_CARE == DONT_CARE else decode(cmos[at])
            for at, decode in (
                (SECONDS_ALARM, self._decode),
                (MINUTES_ALARM, self._decode),
                (HOURS_ALARM, self._hour),
            )
        )
        step = 1
        if second is not None:
            if second >= 60:
                return False
            first += (second - first) % 60
            step = 60
        return any(
            minute in {None, at // 60 % 60} and hour in {None, at // 3600 % 24}
            for at in range(first, min(last, first + DAY) + 1, step)
        )


def _runs(reg_a: int, reg_b: int) -> bool:
    return not reg_b & B_SET and reg_a & A_DIVIDER_RESET != A_DIVIDER_RESET


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar; any month and day, zero included."""
    years, month_index = divmod(month - 3, 12)  # from March on: the leap day comes last
    year += years
    return (
        365 * year
        + year // 4
        - year // 100
        + year // 400
        + (153 * month_index + 2) // 5
        + day
        - 719469
    )


def _civil_from_days(days: int) -> tuple[int, int, int]:
    """The year, month (1 to 12) and day (1 to 31) that is so many days after 1970-01-01."""
    year = 1970 + days * 400 // 146097
    while _days_from_civil(year, 1, 1) > days:
        year -= 1
    while _days_from_civil(year + 1, 1, 1) <= days:
        year += 1
    month = 12
    while _days_from_civil(year, month, 1) > days:
        month -= 1
    return year, month, days - _days_from_civil(year, month, 1) + 1
