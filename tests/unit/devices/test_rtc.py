"""The MC146818: time, formats, flags, CMOS. Numbers are QEMU 7.2's answers."""

from __future__ import annotations

from calendar import timegm
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.rtc import Mc146818
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, in_

TIME = (0x32, 9, 8, 7, 6, 4, 2, 0)  # century to seconds
START = timegm((2006, 6, 17, 16, 1, 21))


class Board:
    """The clock at its ports, and the time it goes by."""

    def __init__(self, start: float = START) -> None:
        self.now = start
        self.rtc = Mc146818(lambda: round(self.now * 1e6) * 1000, {0x10: 0x40, 0x7F: 0x99})
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.rtc.legacy_ports:
            self.ports.map(region, base, priority)

    def get(self, index: int) -> int:
        self.ports.write(0x70, 1, index)
        return self.ports.read(0x71, 1)

    def put(self, index: int, value: int) -> None:
        self.ports.write(0x70, 1, index)
        self.ports.write(0x71, 1, value)

    def time(self) -> str:
        return bytes(self.get(index) for index in TIME).hex(" ")


# --- ports ---


def test_the_index_port_reads_as_ones() -> None:
    board = Board()
    board.ports.write(0x70, 1, 0x0D)
    assert board.ports.read(0x70, 1) == 0xFF
    assert board.ports.read(0x70, 2) == 0x80FF


def test_a_word_writes_index_and_data() -> None:
    board = Board()
    board.ports.write(0x70, 2, 0x1220)
    assert board.get(0x20) == 0x12


def test_bit_7_of_the_index_is_the_nmi_mask_and_not_part_of_it() -> None:
    board = Board()
    assert board.get(0x80 | 0x0A) == 0x26


@pytest.mark.parametrize(
    ("index", "at_reset", "after_ones", "after_zeros"),
    [
        (0x0A, 0x26, 0x7F, 0x00),
        (0x0B, 0x02, 0xEF, 0x00),
        (0x0C, 0x00, 0x00, 0x00),
        (0x0D, 0x80, 0x80, 0x80),
        (0x01, 0x00, 0xFF, 0x00),
        (0x10, 0x40, 0xFF, 0x00),
        (0x7F, 0x99, 0xFF, 0x00),
    ],
)
def test_bits_that_stick(index: int, at_reset: int, after_ones: int, after_zeros: int) -> None:
    board = Board()
    seen = [board.get(index)]
    for value in (0xFF, 0x00):
        board.put(index, value)
        seen.append(board.get(index))
    assert seen == [at_reset, after_ones, after_zeros]


def test_the_century_has_two_names() -> None:
    board = Board()
    board.put(0x37, 0x21)
    assert board.get(0x32) == board.get(0x37) == 0x21


# --- time ---


def test_time_in_all_formats() -> None:
    board = Board()
    seen = []
    for reg_b in (0x02, 0x06, 0x00, 0x04):
        board.put(0x0B, reg_b)
        seen.append(board.time())
    assert seen == [
        "20 06 06 17 07 16 01 21",
        "14 06 06 11 07 10 01 15",
        "20 06 06 17 07 84 01 21",
        "14 06 06 11 07 84 01 15",
    ]


def test_time_goes_on() -> None:
    board = Board()
    board.now += 86400 * 14 + 3661
    assert board.time() == "20 06 07 01 07 17 02 22"


@pytest.mark.parametrize(
    ("index", "value", "expected"),
    [
        (8, 0x13, "20 07 01 17 04 16 01 21"),
        (8, 0x00, "20 05 12 17 07 16 01 21"),
        (7, 0x31, "20 06 07 01 07 16 01 21"),
        (0, 0x61, "20 06 06 17 07 16 02 01"),
        (4, 0x25, "20 06 06 18 01 01 01 21"),
        (2, 0xAF, "20 06 06 17 07 17 55 21"),
        (0, 0xFB, "20 06 06 17 07 16 00 59"),
        (6, 0x09, "20 06 06 17 07 16 01 21"),
    ],
)
def test_times_that_do_not_exist_count_on(index: int, value: int, expected: str) -> None:
    board = Board()
    board.put(index, value)
    assert board.time() == expected


def test_set_holds_the_clock_and_takes_registers_as_they_are() -> None:
    board = Board()
    board.put(0x0B, 0x82)
    board.now += 100
    assert board.time() == "20 06 06 17 07 16 01 21"
    for index, value in zip(TIME, bytes.fromhex("19 99 12 31 01 23 59 59"), strict=True):
        board.put(index, value)
    assert board.time() == "19 99 12 31 01 23 59 59"
    board.put(0x0B, 0x02)
    board.now += 1
    assert board.time() == "20 00 01 01 07 00 00 00"


def test_leaving_set_reads_the_registers_in_the_old_format() -> None:
    board = Board()
    board.put(0x0B, 0x82)
    board.put(0, 0x30)
    board.put(0x0B, 0x06)
    assert board.get(0) == 30


def test_the_divider_starts_half_a_second_before_the_next() -> None:
    board = Board()
    board.put(0x0A, 0x66)
    board.now += 100
    board.put(0x0A, 0x26)
    board.now += 0.49
    assert board.get(0) == 0x21
    board.now += 0.02
    assert board.get(0) == 0x22


def test_uip_announces_the_next_second() -> None:
    board = Board(START + 0.9)
    assert board.get(0x0A) == 0x26
    board.now = START + 0.9999
    assert board.get(0x0A) == 0xA6
    board.put(0x0B, 0x82)
    assert board.get(0x0A) == 0x26


@pytest.mark.slow
@given(st.integers(-140000, 4000000))
def test_dates_agree_with_the_standard_library(days: int) -> None:
    board = Board(days * 86400.0)
    day = date(1970, 1, 1) + timedelta(days) if days < 2932896 else None
    if day is not None:
        expected = f"{day.year:04}{day.month:02}{day.day:02}{day.isoweekday() % 7 + 1:02}000000"
        assert board.time().replace(" ", "") == expected
    before = board.time()
    board.put(7, board.get(7))  # a write of what is there changes nothing
    assert board.time() == before


# --- flags ---


def test_updates_are_flagged_and_reading_clears() -> None:
    board = Board()
    board.now += 1
    assert [board.get(0x0C), board.get(0x0C)] == [0x10, 0]
    board.put(0x0B, 0x12)
    board.now += 1
    assert [board.get(0x0C), board.get(0x0C)] == [0x90, 0]


@pytest.mark.parametrize(
    ("alarm", "seconds", "flags"),
    [
        ((0xFF, 0xFF, 0xFF), 1, 0x30),
        ((0x22, 0x01, 0x16), 1, 0x30),
        ((0x21, 0x01, 0x16), 86399, 0x10),
        ((0x21, 0x01, 0x16), 86400, 0x30),
        ((0x30, 0xC0, 0xFF), 8, 0x10),
        ((0x30, 0xC0, 0xFF), 9, 0x30),
        ((0xFF, 0x03, 0x16), 98, 0x10),
        ((0xFF, 0x03, 0x16), 99, 0x30),
        ((0x75, 0x00, 0x00), 200000, 0x10),
        ((0x00, 0x77, 0x00), 200000, 0x10),
    ],
)
def test_alarms(alarm: tuple[int, int, int], seconds: int, flags: int) -> None:
    board = Board()
    for index, value in zip((1, 3, 5), alarm, strict=True):
        board.put(index, value)
    board.now += seconds
    assert board.get(0x0C) == flags


HOURS_OF_THE_FORMATS = {
    0x00: [0x12, *range(1, 10), 0x10, 0x11, 0x92, *range(0x81, 0x8A), 0x90, 0x91],
    0x04: [12, *range(1, 12), 0x8C, *range(0x81, 0x8C)],
    0x02: [*range(10), *range(0x10, 0x1A), *range(0x20, 0x24)],
    0x06: [*range(24)],
}


IMPOSSIBLE = (0x2A, 0x30, 0x3F, 0x60, 0x7F, 0x80, 0x8D, 0x93, 0x99, 0xA4, 0xBF)


@pytest.mark.slow
@pytest.mark.parametrize("reg_b", HOURS_OF_THE_FORMATS)
def test_an_alarm_goes_off_at_the_hour_of_that_byte_and_at_no_other(reg_b: int) -> None:
    """Bytes below 0xc0 that no hour has, such as 0 in 12-hour format, never match."""
    possible = HOURS_OF_THE_FORMATS[reg_b]
    for code in {*possible, *range(0x10), *range(0x12, 0x1A), 0x24, 0x29, *IMPOSSIBLE, 0xC0, 0xFF}:
        board = Board(timegm((2006, 6, 16, 23, 59, 59)))
        board.put(0x0B, reg_b)
        board.put(0x01, 0)
        board.put(0x03, 0)
        board.put(0x05, code)
        hours = []
        for hour in range(24):
            board.now += 1
            if board.get(0x0C) & 0x20:
                hours.append(hour)
            board.now += 3599
            assert board.get(0x0C) & 0x20 == 0
        anything = code >= 0xC0
        assert hours == [h for h in range(24) if anything or possible[h] == code], hex(code)


def test_an_enabled_alarm_says_so() -> None:
    board = Board()
    for index in (1, 3, 5):
        board.put(index, 0xFF)
    board.put(0x0B, 0x22)
    board.now += 1
    assert board.get(0x0C) == 0xB0


@pytest.mark.parametrize(
    ("rate", "period"), [(6, 1 / 1024), (15, 0.5), (1, 1 / 256), (3, 1 / 8192)]
)
def test_periods_are_flagged_once_enabled(rate: int, period: float) -> None:
    board = Board()
    board.put(0x0A, 0x20 | rate)
    board.now += period
    assert board.get(0x0C) & 0x40 == 0
    board.now += 0.3 * period
    board.put(0x0B, 0x42)
    board.now += period * 0.7  # the first period begins with PIE, at a whole tick
    assert board.get(0x0C) & 0x40 == 0
    board.now += period * 0.4
    assert board.get(0x0C) & 0xC0 == 0xC0
    board.now += 1000 * period
    assert board.get(0x0C) & 0xC0 == 0xC0
    board.now += period * 0.5
    assert board.get(0x0C) & 0x40 == 0


@pytest.mark.parametrize(
    ("rate", "early", "late"),
    [
        (15, 0.1, 0.11),  # the half second that was 0.4 old goes on
        (14, 0.0, 0.001),  # a quarter is over already
        (13, 0.0, 0.001),
    ],
)
def test_a_new_rate_counts_what_is_over_of_the_old_period(
    rate: int, early: float, late: float
) -> None:
    board = Board()
    board.put(0x0A, 0x2F)
    board.put(0x0B, 0x42)
    board.now += 0.4
    board.put(0x0A, 0x20 | rate)
    board.now += early * 0.99
    assert early == 0 or board.get(0x0C) & 0x40 == 0
    board.now += late
    assert board.get(0x0C) & 0x40


def test_set_stops_the_time_and_no_flag() -> None:
    board = Board()
    board.put(0x0A, 0x26)
    board.put(0x0B, 0xC2)
    board.now += 0.05
    assert board.get(0x0C) == 0xC0
    board.now += 1
    assert board.get(0x0C) == 0xD0  # QEMU's seconds end
    assert board.get(0) == 0x21


@pytest.mark.parametrize("reg_a", [0x66, 0x6F, 0x76])
@pytest.mark.parametrize("reg_b", [0x42, 0xC2, 0x72, 0xF2])
def test_with_the_divider_in_reset_no_flag_comes(reg_a: int, reg_b: int) -> None:
    board = Board()
    board.put(0x0A, reg_a)
    board.put(0x0B, reg_b)
    board.now += 5
    assert board.get(0x0C) == 0
    board.put(0x0A, 0x2F)
    board.put(0x0B, 0x42)
    board.now += 0.51
    assert board.get(0x0C) & 0x40


@pytest.mark.parametrize("reg_a", [0x36, 0x46, 0x56])
def test_other_dividers_count_behind_registers_that_stand_still(reg_a: int) -> None:
    board = Board()
    board.put(0x0A, reg_a)
    board.now += 2
    board.get(0x0C)
    seen = board.get(0)
    board.now += 0.9
    assert board.get(0) == seen == 0x23


def test_rate_0_has_no_periods() -> None:
    board = Board()
    board.put(0x0A, 0x20)
    board.put(0x0B, 0x42)
    board.now += 0.9
    assert board.get(0x0C) == 0


# --- device ---


def test_the_state_leaves_the_clock_out() -> None:
    board = Board()
    before = board.rtc.state()
    board.now += 12345
    board.time()
    board.ports.write(0x70, 1, 0)
    assert board.rtc.state() == before
    board.put(0x20, 1)
    assert board.rtc.state() != before


def test_the_state_of_a_held_clock_has_its_time() -> None:
    board = Board()
    board.put(0x0B, 0x82)
    before = board.rtc.state()["cmos"]
    board.put(0, 0x33)
    assert board.rtc.state()["cmos"] != before


def test_the_state_leaves_out_when_the_clock_was_held() -> None:
    """The registers of a stopped clock hold its time until the guest writes them."""
    states = []
    for passed in (0, 1234.5):
        board = Board()
        board.now += passed
        board.put(0x0B, 0x82)
        states.append([board.rtc.state()])
        board.put(2, 0x44)
        states[-1].append(board.rtc.state())
        board.put(0x0A, 0x66)
        board.put(0x0B, 0x02)
        states[-1].append(board.rtc.state())
    assert states[0] == states[1]
    assert states[0][0] != states[0][1]


def test_reset_disables_interrupts_and_keeps_the_rest() -> None:
    board = Board()
    board.put(0x0B, 0x7A)
    board.put(0x0F, 0x05)
    board.put(0x20, 0x55)
    board.now += 1
    board.rtc.reset()
    assert (board.get(0x0B), board.get(0x0C), board.get(0x20)) == (0x12, 0x00, 0x55)
    assert board.get(0x0F) == 0  # firmware would go on with what the guest had planned before
    assert board.get(0) == 0x22


@pytest.mark.parametrize("index", [0x00, 0x0D, 0x80])
def test_registers_are_no_cmos(index: int) -> None:
    with pytest.raises(ValueError, match="0x0e to 0x7f"):
        Mc146818(lambda: 0, {index: 1})


def test_the_queued_index_counts_before_the_data_is_read() -> None:
    accel = FakeAccelerator(
        [
            Queued(0x70, 1, 0x10, port=True),
            Queued(0x70, 1, 0x0D, port=True),
            in_(0x71),
            Queued(0x70, 1, 0x10, port=True),
            in_(0x71),
        ]
    )
    machine = Machine(accel)
    rtc = Mc146818(lambda: 0, {0x10: 0x40})
    for base, region, priority in rtc.legacy_ports:
        machine.ports.map(region, base, priority)
    machine.run("script")
    assert ("register", 0x70, 1, True) in accel.log
    assert accel.completed == [0x80, 0x40]
    assert machine.counters.coalesced == 3


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 13), st.sampled_from([0x32, 0x37]), st.integers(0, 255)),
            st.one_of(st.integers(0, 255), st.sampled_from([0x82, 0x02, 0x26, 0x60])),
            st.floats(0, 1e6),
        ),
        max_size=25,
    ),
    st.floats(0, 4e9),
)
def test_no_access_raises(writes: list[tuple[int, int, float]], start: float) -> None:
    board = Board(start)
    for index, value, seconds in writes:
        board.put(index, value)
        board.now += seconds
        board.get(index)
        board.get(0x0C)
        assert 0 <= board.get(0x0A) <= 0xFF
    board.rtc.state()
