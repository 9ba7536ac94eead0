"""The properties of a user's ring, each tried on pairs of processes."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from coalesced.tools.rings.control import Word
from coalesced.tools.rings.drivers import Job
from coalesced.tools.rings.patience import HANG, Patience
from coalesced.tools.rings.probe import ENTRY_LEAST, SIZES, Offer
from coalesced.tools.rings.sides import Pair, Ring

PROPERTIES = (
    "lossless",
    "in_order",
    "untorn",
    "survives_producer_death",
    "survives_consumer_death",
    "hostile_indices",
    "never_sleeps_through_news",
)
_LOOK = 0.001  # seconds between two looks at a pair
_SLICE = 0.25
_WAIT_MS = 400  # that a consumer sleeps at most
_FILLING = 0.25  # share of the slices with sleep in which each push fills the ring
_FULL = SIZES[:4]  # entries, in rings that hold no more
_PAUSES = (2, 6, 20, 60, 200, 1000)  # loop turns at most between two single entries
_HOSTILE_BYTES = 256  # of the memory's start, where the indices are
_CORRUPTIONS_EACH = 40  # of a pair
_REFUSALS = 20  # calls that bring nothing in: the ring is full
_BURSTS = (1, 7, 64, 1000)


@dataclass
class Found:
    """The counts and verdicts; a property that is missing is not claimed, or was not tried."""

    properties: dict[str, bool | None] = field(default_factory=dict)
    entries: int = 0
    lost: int = 0
    duplicated: int = 0
    redelivered: int = 0
    reordered: int = 0
    torn: int = 0
    kills: int = 0
    recovered: int = 0
    corruptions: int = 0
    corruptions_detected: int = 0
    corruptions_harmless: int = 0
    waits: int = 0
    failures: list[str] = field(default_factory=list)
    ns_per_entry: float | None = None
    beside: dict[str, float] = field(default_factory=dict)  # ns per entry
    latency_us: dict[str, float] = field(default_factory=dict)  # median, by ring

    @property
    def ok(self) -> bool:
        """Whether every property that was tried holds."""
        return False not in self.properties.values()

    @property
    def passes_entries(self) -> bool:
        """Whether none of the first three properties fails."""
        return False not in [self.properties[name] for name in PROPERTIES[:3]]

    @property
    def untried(self) -> str:
        """The reason why a property has no verdict."""
        return "not claimed" if self.passes_entries else "not tried"

    def fail(self, name: str, text: str, job: Job) -> None:
        """A property does not hold."""
        if self.properties.get(name) is not False:
            setup = f"{job.entries} entries, bursts of {job.burst}, CPUs {job.cpus}"
            self.failures.append(f"{name.replace('_', ' ')}: {text} [{setup}, seed {job.seed}]")
        self.properties[name] = False

    def take(self, pair: Pair, prefix: str = "") -> bool:
        """Add a pair's counts; `prefix`: the property that they are about, else the first three."""
        control, good = pair.control, True
        self.entries += control[Word.next]
        self.redelivered += control[Word.redelivered]
        self.waits += control[Word.waits]
        for name, word, about in (
            ("lost", Word.lost, "lossless"),
            ("duplicated", Word.duplicated, "in_order"),
            ("reordered", Word.reordered, "in_order"),
            ("torn", Word.torn, "untorn"),
        ):
            count = control[word]
            setattr(self, name, getattr(self, name) + count)
            if count:
                good = False
                self.fail(prefix or about, f"{count:,} {name}", pair.job)
        return good


class Trials:
    """Tries one property after the other; `random` draws what varies."""

    def __init__(self, offer: Offer, seed: int, found: Found, placements: list[str]) -> None:
        self._offer, self.found = offer, found
        self.random = random.Random(seed)
        cpus = sorted(os.sched_getaffinity(0))
        self._cpus = {"same": (cpus[0], cpus[0]), "split": (cpus[0], cpus[-1]), "any": (-1, -1)}
        self._placements = placements
        self.apart = self._cpus[placements[-1]]

    def job(self, **more: object) -> Job:
        """A job of random size and placement."""
        chance, ring = self.random, self._offer.ring
        job = Job(
            entries=chance.choice(self._sizes(SIZES[1:4] if ring.in_python else SIZES[1:])),
            burst=chance.choice(_BURSTS),
            cpus=self._cpus[chance.choice(self._placements)],
            seed=chance.getrandbits(32),
        )
        return replace(job, **more)  # type: ignore[arg-type]

    def _sizes(self, wanted: Sequence[int]) -> Sequence[int]:
        """Those that the ring can have; 1, if it can have none of them."""
        return [entries for entries in wanted if entries <= self._offer.ring.most] or [1]

    @contextmanager
    def _pair(self, job: Job, ring: Ring | None = None) -> Iterator[Pair | None]:
        pair = Pair(ring or self._offer.ring, job)
        try:
            if pair.go():
                yield pair
            else:
                trouble = pair.trouble() or "a side did not get ready"
                self.found.fail("lossless", trouble, job)
                yield None
        finally:
            pair.close()

    def at_full_speed(self, seconds: float = _SLICE) -> None:
        """One slice of numbered entries."""
        with self._pair(self.job()) as pair:
            if pair is not None:
                self._run(pair, seconds, "lossless")
                self.found.take(pair)

    def _run(self, pair: Pair, seconds: float, name: str) -> bool:
        """Until the time is up and the ring is drained; False when a side hangs or crashes."""
        control, end = pair.control, time.monotonic() + seconds
        patience = pair.patience()
        while not all(child.ended() for child in pair.sides.values()):
            if time.monotonic() >= end:
                control[Word.stop] = 1
            if (
                self._is_stuck(pair, patience, name)
                or control[Word.torn] + control[Word.lost] > 1000
            ):
                return False
        trouble = pair.trouble()
        if not trouble and pair.memory.overrun():
            trouble = "it writes behind the bytes that its size function asks for"
        if trouble:
            self.found.fail(name, trouble, pair.job)
        return not trouble

    def _is_stuck(self, pair: Pair, patience: Patience, name: str, when: str = "") -> bool:
        """Whether a side has ended badly or hangs, which is reported; waits a moment otherwise."""
        trouble = pair.trouble()
        if not trouble and patience.over(pair.control[Word.next]):
            trouble = when + _stall(pair)
        if trouble:
            self.found.fail(name, trouble, pair.job)
            return True
        time.sleep(_LOOK)
        return False

    def sleeping(self, seconds: float) -> None:
        """Entries for a consumer that sleeps between them: single ones, or as many as fill it."""
        job = self.job(burst=1, pause=self.random.choice(_PAUSES), wait=_WAIT_MS,
                       cpus=self.apart)  # fmt: skip
        if self.random.random() < _FILLING:
            full = self.random.choice(self._sizes(_FULL))
            job = replace(job, entries=full, burst=full)
        name = "never_sleeps_through_news"
        with self._pair(job) as pair:
            if pair is None:
                return
            end = time.monotonic() + seconds
            while time.monotonic() < end and not pair.control[Word.slept_through]:
                time.sleep(_LOOK)
                if pair.trouble():
                    break
            control = pair.control
            self._run(pair, 0.0001, name)
            if count := control[Word.slept_through]:
                told = f"in {count} of {control[Word.waits]:,} waits an entry lay in the ring"
                self.found.fail(name, told, job)
            self.found.take(pair)

    def dying(self, side: str) -> None:
        """Kill a side, at random or at a point that the ring names, and let another go on."""
        name, job = f"survives_{side}_death", self.job()
        with self._pair(job) as pair:
            for _ in range(8):
                if pair is None or self.found.properties.get(name) is False:
                    return
                self._kill(pair, side)
                if not self._goes_on(pair, name):
                    break
                self.found.recovered += 1
            if pair is not None and self.found.properties.get(name) is not False:
                drained = self._run(pair, 0.0001, name)
                if self.found.take(pair, name) and drained:
                    self._check_capacity(pair, name)

    def _check_capacity(self, pair: Pair, name: str) -> None:
        """A ring that was drained after its sides were killed holds as many as a new one."""
        new = Pair(self._offer.ring, pair.job)
        try:
            new.control[Word.go] = 1
            before, now = self._filled(new), self._filled(pair)
        finally:
            new.close()
        most = len(pair.memory.bytes) // ENTRY_LEAST
        if before is not None and before > most:
            told = f"more than {most:,} entries went in, and nobody took one"
            self.found.fail("lossless", told, pair.job)
        elif before is not None and (now is None or now < before):
            held = "nothing that is pushed" if now is None else f"{now:,} entries"
            self.found.fail(name, f"it holds {held} of {before:,} in the end", pair.job)

    def _filled(self, pair: Pair) -> int | None:
        """Number of entries that fit into an empty ring; None if the producer does not return."""
        control = pair.control
        control[Word.stop] = 0
        if child := pair.sides.pop("producer", None):
            child.close()
        pair.start("producer")
        patience = pair.patience()
        pushed, full = -1, 0
        while True:
            calls = control[Word.producer_calls]
            if control[Word.pushed] != pushed:
                pushed, full = control[Word.pushed], calls + _REFUSALS
            elif calls >= full:
                break
            if pushed - control[Word.next] > len(pair.memory.bytes) // ENTRY_LEAST:
                break  # it cannot hold them all: it drops some
            if pair.sides["producer"].ended() or patience.over(calls):
                return None
            time.sleep(_LOOK / 10)
        return control[Word.pushed] - control[Word.next]

    def _kill(self, pair: Pair, side: str) -> None:
        points = self._offer.points.get(side, ())
        child = pair.sides[side]
        if not awaited(child.ended, self.random.random() * 0.003):
            child.kill()
        self.found.kills += 1
        if points and self.random.random() < 0.6:
            # Its successor dies at a point: what is between its first operation and that.
            self._excuse(pair, side)
            pair.start(side, (self.random.choice(points), self.random.randint(1, 300)))
            child.close()
            child = pair.sides[side]
            if not awaited(child.ended, 0.05):
                child.kill()
            self.found.kills += 1
            self.found.recovered += 1
        self._excuse(pair, side)
        child.close()
        pair.start(side)

    def _excuse(self, pair: Pair, side: str) -> None:
        """The entries that may be lost with the dead side, and those that may come again."""
        control = pair.control
        if side == "producer":
            # Earlier entries are settled first: one range at a time is excused.
            awaited(lambda: control[Word.next] >= control[Word.pushed], 0.5)
            control[Word.again_from] = 1 << 63
            control[Word.gap_from], control[Word.gap_to] = (
                control[Word.pushed],
                control[Word.pushing],
            )
        else:
            first = control[Word.next]
            control[Word.gap_from], control[Word.gap_to] = first, first + control[Word.popping]
            control[Word.again_from] = max(0, first - pair.job.entries * 2 - control[Word.popping])

    def _goes_on(self, pair: Pair, name: str) -> bool:
        control = pair.control
        enough = control[Word.pushing] + 2 * pair.job.entries + 1
        patience = pair.patience()
        while control[Word.next] < enough:
            if self._is_stuck(pair, patience, name, "after it was killed: "):
                return False
        return True

    def hostile(self) -> None:
        """Write garbage over the start of the memory while both sides run."""
        job = self.job(strict=False)
        with self._pair(job) as pair:
            for _ in range(_CORRUPTIONS_EACH):
                if pair is None or not self._corrupt(pair):
                    return

    def _corrupt(self, pair: Pair) -> bool:
        """One corruption; whether both sides go on."""
        chance, memory, control = self.random, pair.memory.bytes, pair.control
        size = chance.choice((4, 8))
        at = chance.randrange(min(len(memory), _HOSTILE_BYTES) // size) * size
        value = chance.choice((0, 1, (1 << 8 * size) - 1, chance.getrandbits(8 * size)))
        calls = control[Word.producer_calls], control[Word.consumer_calls]
        memory[at : at + size] = value.to_bytes(size, "little")
        self.found.corruptions += 1
        sides = list(pair.sides.values())

        def settled() -> bool:
            now = control[Word.producer_calls], control[Word.consumer_calls]
            more = all(b > a + 20 for a, b in zip(calls, now, strict=True))
            return more or any(child.ended() for child in sides)

        patience = pair.patience()
        while not settled():
            if patience.over():
                told = f"a call does not return after {value:#x} at {at}"
                self.found.fail("hostile_indices", told, pair.job)
                return False
            time.sleep(_LOOK / 10)
        for side, child in pair.sides.items():
            if child.ended() and child.status not in (0, 1):
                told = f"{side} {child.how()} after {value:#x} at {at}"
                self.found.fail("hostile_indices", told, pair.job)
                return False
        detected = any(child.ended() for child in sides)
        self.found.corruptions_detected += detected
        self.found.corruptions_harmless += not detected
        return not detected


def awaited(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK / 10)
    return True


def _stall(pair: Pair) -> str:
    control = pair.control
    pushed, taken = control[Word.pushed], control[Word.next]
    return f"nothing moves for {HANG:g} s: {pushed:,} entries pushed, {taken:,} taken"
