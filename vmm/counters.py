"""Counters of a run: writes, queued writes, exits by reason and address."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from coalesced.devices.bus.tally import Tally

FAILURES_KEPT = 10
EXIT_REASONS = ("load", "pio", "no_zone", "straddle", "ring_full", "hlt")


@dataclass(slots=True)
class Counters:
    """Counts of one run, as the VMM sees them."""

    coalesced: int = 0  # writes that came through the ring
    single_writes: int = 0  # writes that came one by one: as exits, or directly
    stale_drains: int = 0  # drains by the staleness timer that found something
    failed_writes: int = 0  # accesses and timers whose device raised
    halts: int = 0
    # By (reason, port?), then by address: this is on the way of every exit, and a number is found
    # in half the time of a tuple. No collections.Counter: it sets items through a method lookup.
    tallies: defaultdict[tuple[str, bool], Tally] = field(
        default_factory=lambda: defaultdict(Tally)
    )
    # Adds what C has counted since; called before counts by address are read.
    settle: Callable[[], object] = field(default=lambda: None, compare=False, repr=False)
    # Adds the writes that C has counted since, and gives the exits that the tallies still lack:
    # a sum needs no count by address, and adding those takes milliseconds after many addresses.
    waiting: Callable[[], Mapping[tuple[str, bool], int]] = field(
        default=dict, compare=False, repr=False
    )
    failures: list[str] = field(default_factory=list)  # texts of the first few

    def count_failure(self, text: Callable[[], str]) -> None:
        """Count a device that raised; the text is made only while texts are kept."""
        self.failed_writes += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(text())

    @property
    def exits_at(self) -> Mapping[tuple[str, bool], Tally]:
        """MMIO and IO exits by (reason, port?), then by address."""
        self.settle()
        return self.tallies

    @property
    def exits_by(self) -> Counter[str]:
        """MMIO, IO and HLT exits by reason; "hlt" is always there, other reasons with an exit."""
        by, waiting = Counter({"hlt": self.halts}), self.waiting()
        for (reason, port), at in self.tallies.items():
            if count := at.total + waiting.get((reason, port), 0):
                by[reason] += count
        return by

    @property
    def hottest(self) -> Counter[tuple[int, bool]]:
        """Exits by (address, port?), where an address has a count of its own."""
        hot: Counter[tuple[int, bool]] = Counter()
        for (_, port), at in self.exits_at.items():
            for address, count in at.items():
                hot[(address, port)] += count
        return hot

    @property
    def exits(self) -> int:
        """MMIO, IO and HLT exits."""
        return sum(self.exits_by.values())

    @property
    def writes(self) -> int:
        """All stores of the guest to devices, and outs."""
        self.waiting()
        return self.coalesced + self.single_writes
