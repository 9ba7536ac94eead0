"""What a run cost: writes, queued writes, exits by reason, where they came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

EXIT_REASONS = ("load", "pio", "no_zone", "straddle", "ring_full", "hlt")


@dataclass(slots=True)
class Counters:
    """Counts of one run, as the VMM sees them."""

    coalesced: int = 0  # writes that came through the ring
    single_writes: int = 0  # writes that came one by one: as exits, or directly
    stale_drains: int = 0  # drains by the staleness timer that found something
    failed_writes: int = 0  # writes whose device raised
    exits_by: Counter[str] = field(default_factory=Counter)
    hottest: Counter[tuple[int, bool]] = field(default_factory=Counter)  # (address, port?)
    failures: list[str] = field(default_factory=list)  # texts of the first few

    @property
    def exits(self) -> int:
        """MMIO, IO and HLT exits."""
        return sum(self.exits_by.values())

    @property
    def writes(self) -> int:
        """All stores of the guest to devices, and outs."""
        return self.coalesced + self.single_writes
