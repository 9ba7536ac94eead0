"""Dates of the Gregorian calendar as days since 1970-01-01."""

from __future__ import annotations


def days_from_civil(year: int, month: int, day: int) -> int:
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


def civil_from_days(days: int) -> tuple[int, int, int]:
    """The year, month (1 to 12) and day (1 to 31) that is `days` days after 1970-01-01."""
    year = 1970 + days * 400 // 146097
    while days_from_civil(year, 1, 1) > days:
        year -= 1
    while days_from_civil(year + 1, 1, 1) <= days:
        year += 1
    month = 12
    while days_from_civil(year, month, 1) > days:
        month -= 1
    return year, month, days - days_from_civil(year, month, 1) + 1
