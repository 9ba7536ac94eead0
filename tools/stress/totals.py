"""The counts of a stress run over all its pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from coalesced.tools.runs.json_members import HIDDEN
from coalesced.tools.stress import guest
from coalesced.tools.stress.checker import Count
from coalesced.tools.stress.pair import Pair

FAILURES_KEPT = 10
WRONG = ("lost", "duplicated", "reordered", "torn")


@dataclass
class Totals:
    """Counts, and descriptions of the first failures."""

    entries: int = 0
    lost: int = 0
    duplicated: int = 0
    redelivered: int = 0
    reordered: int = 0
    torn: int = 0
    wrong_loads: int = 0
    loads: int = 0
    pairs: int = 0
    posted_pairs: int = 0  # of them, those whose guests posted writes
    stops: int = 0
    kills: int = 0
    recovered: int = 0
    slowest_notice_seconds: float = 0.0  # from a kill until the other side reported it
    corruptions: int = 0
    corruptions_detected: int = 0
    corruptions_harmless: int = 0
    slowest_verdict_seconds: float = 0.0  # from a corruption until it was judged
    leaked_segments: int = 0
    failed: int = field(default=0, metadata=HIDDEN)  # of which `failures` keeps the first
    failures: list[str] = field(default_factory=list)

    @classmethod
    def sum_of(cls, parts: Iterable[Totals]) -> Totals:
        """The counts of several runs side by side."""
        every, total = list(parts), cls()
        for each in fields(cls):
            values = [getattr(part, each.name) for part in every]
            if each.name == "failures":
                total.failures = [text for texts in values for text in texts][:FAILURES_KEPT]
            else:
                together = max if each.name.startswith("slowest") else sum
                setattr(total, each.name, together(values))
        return total

    def fail(self, pair: Pair | None, text: str) -> None:
        """Count a failure, of a pair or of the run."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            said = pair.errors() if pair is not None else ""
            where = f" [{describe(pair)}]" if pair is not None else ""
            self.failures.append(f"{text}{f': {said}' if said else ''}{where}")

    def count(self, pair: Pair) -> None:
        """Count a pair that has run."""
        self.pairs += 1
        self.posted_pairs += pair.setup.posted

    def take(self, pair: Pair) -> bool:
        """Add a pair's tally; False when an entry was lost, duplicated, reordered or torn."""
        tally = pair.tally.sum(axis=0)
        self.count(pair)
        self.entries += int(tally[Count.next])
        self.loads += int(tally[Count.answers])
        self.redelivered += int(tally[Count.redelivered])
        found = {name: int(tally[Count[name]]) for name in WRONG}
        if pair.segments is not None:
            found["wrong_loads"] = 0
            for vcpu, own in enumerate(pair.tally):
                missing = pair.segments.note(guest.WRITTEN, vcpu) - int(own[Count.next])
                found["lost"] += max(0, missing)
                found["wrong_loads"] += pair.segments.note(guest.WRONG, vcpu)
        for name, count in found.items():
            setattr(self, name, getattr(self, name) + count)
        if any(found.values()):
            told = ", ".join(f"{count} {name}" for name, count in found.items() if count)
            self.fail(pair, told.replace("_", " "))
        return not any(found.values())

    def judge(self, pair: Pair, what: str, verdict: str, seconds: float) -> None:
        """Count a corruption as 'harmless', 'detected', or as a failure."""
        self.slowest_verdict_seconds = max(self.slowest_verdict_seconds, seconds)
        if verdict == "harmless":
            self.corruptions_harmless += 1
        elif verdict == "detected":
            self.corruptions_detected += 1
        else:
            self.fail(pair, f"{what}: {verdict}")

    def leave_out_unfinished(self) -> None:
        """Do not count a kill or corruption that Ctrl-C ended before it was judged."""
        if not self.failed:
            self.kills = self.recovered
            self.corruptions = self.corruptions_detected + self.corruptions_harmless

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.failed
            or self.leaked_segments
            or self.recovered != self.kills
            or self.corruptions_detected + self.corruptions_harmless != self.corruptions
        )

    def in_short(self, every: bool = False) -> str:
        """The counts of entries, kills and corruptions; without `every`, only those above 0."""
        counts = {
            "entries": self.entries,
            "kills": self.kills,
            "corruptions": self.corruptions,
        }
        return ", ".join(f"{n:,} {what}" for what, n in counts.items() if n or every)


def describe(pair: Pair) -> str:
    """A pair's setup in one line."""
    setup = pair.setup
    return (
        f"{setup.style.value}, {setup.ring_pages} pages from slot {setup.start}, {setup.wait}, "
        f"{setup.cpus}, {setup.vcpus} vCPUs, {setup.rings} own rings, "
        f"seed {setup.seed}, luck {setup.luck}"
    )
