"""The interrupt rate that a driver sets: Linux's e1000 in its default, adaptive mode.

The packets and bytes of the last interrupt choose one of three classes of latency, and the rate
moves towards that of the class in steps. The trace of the real driver shows the resulting values:
976, 434, 279, 205, 195.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

_START_RATE: Final = 20_000
_REGISTER_NS: Final = 256  # 82540EM, ITR: the unit of the interval


class Latency(IntEnum):
    """The classes, the lowest latency first."""

    LOWEST = 0
    LOW = 1
    BULK = 2


# Interrupts per second. The conservative setting, the default, has no faster class than LOW.
_RATES: Final = {Latency.LOWEST: 20_000, Latency.LOW: 20_000, Latency.BULK: 4_000}


def interval_of(rate: int) -> int:
    """The register's value for a number of interrupts per second."""
    return 1_000_000_000 // (rate * _REGISTER_NS)


def next_class(current: Latency, packets: int, octets: int) -> Latency:
    """The class of one direction after an interrupt that found these packets and bytes."""
    if packets == 0:
        return current
    return _NEXT[current](packets, octets, octets / packets)


def _from_lowest(packets: int, octets: int, each: float) -> Latency:
    if each > 8000:
        return Latency.BULK
    return Latency.LOW if packets < 5 and octets > 512 else Latency.LOWEST


def _from_low(packets: int, octets: int, each: float) -> Latency:
    if octets > 10_000:
        if packets < 10 or each > 1200:
            return Latency.BULK
        return Latency.LOWEST if packets > 35 else Latency.LOW
    if each > 2000:
        return Latency.BULK
    return Latency.LOWEST if packets <= 2 and octets < 512 else Latency.LOW


def _from_bulk(packets: int, octets: int, _each: float) -> Latency:
    hurried = packets > 35 if octets > 25_000 else octets < 6000
    return Latency.LOW if hurried else Latency.BULK


_NEXT: Final[dict[Latency, Callable[[int, int, float], Latency]]] = {
    Latency.LOWEST: _from_lowest,
    Latency.LOW: _from_low,
    Latency.BULK: _from_bulk,
}


class Moderation:
    """The interrupt rate of a card with one interrupt for both directions."""

    def __init__(self) -> None:
        self._rate = _START_RATE
        self._sent = self._received = Latency.LOW

    @property
    def interval(self) -> int:
        """The value for the register ITR."""
        return interval_of(self._rate)

    def update(self, sent: int, sent_octets: int, received: int, received_octets: int) -> bool:
        """Count an interrupt that found these packets each way; true if the interval changes."""
        before = self._rate
        self._sent = next_class(self._sent, sent, sent_octets)
        self._received = next_class(self._received, received, received_octets)
        wanted = _RATES[max(self._sent, self._received)]
        if wanted > before:  # faster step by step, slower at once
            wanted = min(before + wanted // 4, wanted)
        self._rate = wanted
        return wanted != before
