"""Counts entries that are lost, duplicated, redelivered, reordered or torn."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.region import U32, U64
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.stress import pattern
from coalesced.tools.stress.pattern import MEMORY_MODULUS, PERIOD, Stream, probe_value_of

_MISSING_KEPT = 100_000  # remembered missing numbers; of others, late entries stay lost


class Count(IntEnum):
    """Places in a tally: int64 in shared memory, so that it outlives the process that counts."""

    next = 0  # number of the entry that must come next
    lost = 1
    duplicated = 2
    redelivered = 3
    reordered = 4
    torn = 5
    answers = 6  # loads that the device answered
    proved = 7  # number of the last proof that the guest has ended


COUNTS = len(Count)


class Checker:
    """Compares entries with the stream, and counts in the tally at once."""

    def __init__(self, stream: Stream, tally: NDArray[np.int64], strict: bool = True) -> None:
        """Continue from the tally. Not `strict`: a third party writes into the ring, so that wrong
        entries are expected, and none is looked at."""
        self.tally = tally
        self._stream = stream
        self._strict = strict
        self._missing: set[int] = set()
        self._again = range(0)  # numbers of entries that may come a second time
        self._lap = -1  # of `_entries`
        self._entries: list[tuple[bool, int, int, int]] = []

    def allow_again(self, entries: int) -> None:
        """Expect the last `entries` a second time: the consumer of their batch died."""
        expected = int(self.tally[Count.next])
        self._again = range(max(0, expected - entries), expected)

    def run(self, pio: bool, addresses: U64, lengths: U32, data: U64) -> None:
        """Writes in the order in which they came; addresses are absolute."""
        if not self._strict:
            return
        at, count = 0, len(addresses)
        while at < count:
            lap, i = divmod(int(self.tally[Count.next]), PERIOD)
            taken = min(count - at, PERIOD - i)
            here, there = slice(at, at + taken), slice(i, i + taken)
            wanted = self._stream.lap(lap)
            right = (
                (wanted.address[there] == addresses[here])
                & (wanted.data[there] == data[here])
                & (wanted.length[there] == lengths[here])
                & (wanted.pio[there] == pio)
            )
            good = taken if right.all() else int(right.argmin())
            self.tally[Count.next] += good
            at += good
            if good < taken:
                self.one(pio, int(addresses[at]), int(lengths[at]), int(data[at]))
                at += 1

    def one(self, pio: bool, address: int, length: int, data: int) -> None:
        """One write."""
        if not self._strict:
            return
        expected = int(self.tally[Count.next])
        if self._is(expected, pio, address, length, data):
            self.tally[Count.next] = expected + 1
            return
        number = self._number(expected, pio, address)
        whole = self._is(number, pio, address, length, data)
        if not whole:
            self.tally[Count.torn] += 1
            self.tally[Count.next] = expected + 1
        elif number > expected:
            self.tally[Count.lost] += number - expected
            room = _MISSING_KEPT - len(self._missing)
            self._missing.update(range(expected, min(number, expected + room)))
            self.tally[Count.next] = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self.tally[Count.lost] -= 1
            self.tally[Count.reordered] += 1
        else:
            again = number in self._again
            self.tally[Count.redelivered if again else Count.duplicated] += 1

    def position(self, low: int, modulus: int) -> None:
        """Check the number of entries before an access without an entry, modulo `modulus`."""
        if self._strict and (low - int(self.tally[Count.next])) % modulus:
            self.tally[Count.reordered] += 1

    def answer(self) -> int:
        """The value of a load now."""
        self.tally[Count.answers] += 1
        return probe_value_of(int(self.tally[Count.next]))

    def _number(self, near: int, pio: bool, address: int) -> int:
        """The number nearest to `near` whose low bits the address carries."""
        modulus = PERIOD if pio else MEMORY_MODULUS
        base = pattern.own(pattern.QUEUE_PORTS, self._stream.vcpu) if pio else 0
        low = address - base if pio else address // PAGE_SIZE
        return max(0, near + (low - near + modulus // 2) % modulus - modulus // 2)

    def _is(self, number: int, pio: bool, address: int, length: int, data: int) -> bool:
        lap, i = divmod(number, PERIOD)
        if lap != self._lap:
            self._lap, self._entries = lap, self._stream.lap(lap).entries()
        return self._entries[i] == (pio, address, length, data)
