"""Repetitions, taken in turns, so that a disturbance affects all subjects alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        """An interval that holds the true median with 95 % confidence, for any distribution.

        The interval from the k-th least to the k-th greatest of n samples misses it with the
        probability that n fair coins show fewer than k heads, or tails. Below six samples even the
        whole range misses it more often.
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

    def of_neighbours(self) -> str:
        """A remark on samples that compare two neighbours each: their number, and the interval."""
        low, high = self.interval()
        return (
            f"of {len(self.samples)} neighbours; the median is {low:.1f} to {high:.1f} (95 % "
            "confidence)"
        )


NOTHING = Spread(math.nan, math.nan, math.nan)  # without a sample


class Taken(dict[str, Spread]):
    """Figures by subject; NOTHING for one without a sample: Ctrl-C came first, or it had none."""

    def __missing__(self, name: str) -> Spread:
        return NOTHING


def spread(samples: Sequence[float]) -> Spread:
    """Median, least and greatest of at least one sample."""
    return Spread(float(np.median(samples)), min(samples), max(samples), tuple(samples))


def interleaved(
    subjects: Mapping[str, Callable[[], float]],
    repetitions: int,
    step: Step,
    chance: Random | None = None,
) -> Taken:
    """Measure each subject `repetitions` times, in rounds over all, after a round that warms up.

    `chance` gives each round an order of its own, so that no subject always follows the same one.
    A subject returns one sample, NaN for none. `step` is called after each, `rounds(repetitions)`
    times per subject. Within `progress.shown` Ctrl-C ends the rounds early; otherwise it is raised.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    with stopping():
        for number in range(rounds(repetitions)):
            if chance is not None:
                chance.shuffle(order)
            for name in order:
                sample = subjects[name]()
                if number and not math.isnan(sample):
                    samples[name].append(sample)
                step()
    return Taken({name: spread(taken) for name, taken in samples.items() if taken})


def rounds(repetitions: int) -> int:
    """Number of rounds for `repetitions`, with the one that warms up."""
    return repetitions + 1


def percentile(nanoseconds: NDArray[np.int64], percent: float) -> float:
    """The least value, in microseconds, that `percent` of the values do not exceed; NaN of none."""
    if not len(nanoseconds):
        return math.nan
    # Rounded, unlike np.percentile: 99.9 % of 1,000 are 999 values.
    rank = max(math.ceil(round(percent / 100 * len(nanoseconds), 6)), 1) - 1
    return float(np.partition(nanoseconds, rank)[rank]) / 1e3
