"""What a stress run has found, over all its pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from coalesced.tools.guests import stress as guest
from coalesced.tools.stress.checker import Count
from coalesced.tools.stress.pair import Pair

FAILURES_KEPT = 10
WRONG = ("lost", "duplicated", "reordered", "torn")


@dataclass
class Totals:
    """Counts, and the first few things that went wrong in words."""

    entries: int = 0
    lost: int = 0
    duplicated: int = 0
    redelivered: int = 0
    reordered: int = 0
    torn: int = 0
    wrong_loads: int = 0
    loads: int = 0
    pairs: int = 0
    stops: int = 0
    kills: int = 0
    recovered: int = 0
    slowest_notice: float = 0.0  # seconds from a kill to when the other side knew
    corruptions: int = 0
    detected: int = 0
    harmless: int = 0
    slowest_verdict: float = 0.0  # seconds from a corruption to what it came to
    leaked_segments: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, pair: Pair | None, text: str) -> None:
        """Something is wrong, with a pair."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            said = pair.errors() if pair is not None else ""
            where = f" [{describe(pair)}]" if pair is not None else ""
            self.failures.append(f"{text}{f': {said}' if said else ''}{where}")

    def take(self, pair: Pair) -> bool:
        """Add a pair's tally; was every entry that the guest wrote there, once, in order, whole?"""
        tally = pair.tally
        self.pairs += 1
        self.entries += int(tally[Count.next])
        self.loads += int(tally[Count.answers])
        self.redelivered += int(tally[Count.redelivered])
        found = {name: int(tally[Count[name]]) for name in WRONG}
        if pair.segments is not None:
            missing = pair.segments.note(guest.WRITTEN) - int(tally[Count.next])
            found["lost"] += max(0, missing)
            found["wrong_loads"] = pair.segments.note(guest.WRONG)
        for name, count in found.items():
            setattr(self, name, getattr(self, name) + count)
        if any(found.values()):
            told = ", ".join(f"{count} {name}" for name, count in found.items() if count)
            self.fail(pair, told.replace("_", " "))
        return not any(found.values())

    def leave_out_unfinished(self) -> None:
        """Ctrl-C came: nobody knows what the last kill, or corruption, would have come to."""
        if not self.failed:
            self.kills = self.recovered
            self.corruptions = self.detected + self.harmless

    @property
    def ok(self) -> bool:
        """Is nothing wrong?"""
        return not (
            self.failed
            or self.leaked_segments
            or self.recovered != self.kills
            or self.detected + self.harmless != self.corruptions
        )


def describe(pair: Pair) -> str:
    """A pair's setup in a few words."""
    setup = pair.setup
    return (
        f"{setup.style.value}, {setup.ring_pages} pages from slot {setup.start}, {setup.wait}, "
        f"{setup.cpus}, seed {setup.seed}, luck {setup.luck}"
    )
