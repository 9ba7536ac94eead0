"""Repetitions, taken in turns, so that what disturbs one figure disturbs the others as well."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from coalesced.tools.bench.progress import stopping

Step = Callable[[], None]

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """A figure over its repetitions, all in its unit."""

    median: float
    low: float
    high: float
    samples: tuple[float, ...] = ()

    def scaled(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(
            self.median * factor,
            self.low * factor,
            self.high * factor,
            tuple(sample * factor for sample in self.samples),
        )

    def interval(self) -> tuple[float, float]:
        """Where the true median lies, 95 % sure, whatever the distribution.

        All but the k least and k greatest of n samples miss it as often as n fair coins show at
        most k heads, or k tails. Below six samples even all of them miss it more often.
        """
        ordered = sorted(self.samples)
        if not ordered:
            return self.low, self.high
        count, left_out = len(ordered), 0
        missed = 2 * 0.5**count
        while left_out < (count - 1) // 2:
            missed += 2 * math.comb(count, left_out + 1) * 0.5**count
            if missed > 1 - CONFIDENCE:
                break
            left_out += 1
        return ordered[left_out], ordered[-1 - left_out]


NOTHING = Spread(math.nan, math.nan, math.nan)  # Ctrl-C came before the first sample


class Taken(dict[str, Spread]):
    """Figures by subject; NOTHING for one that Ctrl-C left without a sample."""

    def __missing__(self, name: str) -> Spread:
        return NOTHING


def spread(samples: Sequence[float]) -> Spread:
    """Median, least and greatest of at least one sample."""
    return Spread(statistics.median(samples), min(samples), max(samples), tuple(samples))


def interleaved(subjects: Mapping[str, Callable[[], float]], repetitions: int, step: Step) -> Taken:
    """Measure each subject `repetitions` times, in rounds over all, after a round that warms up.

    A subject returns one sample. `step` is called after each, `rounds(repetitions)` times per
    subject. Where a report will come of it Ctrl-C ends the rounds, and what was taken is returned.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    with stopping():
        for number in range(rounds(repetitions)):
            for name, measure in subjects.items():
                sample = measure()
                if number:
                    samples[name].append(sample)
                step()
    return Taken({name: spread(taken) for name, taken in samples.items() if taken})


def rounds(repetitions: int) -> int:
    """Rounds that so many repetitions take, the one that warms up included."""
    return repetitions + 1
