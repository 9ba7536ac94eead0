"""Every round trip that was timed, counted by its length: nothing is averaged away or cut off."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIGITS = 3  # of a value in a saved histogram, as HdrHistogram keeps them; counts are exact

PERCENTILES = (50.0, 99.0, 99.9)


class Histogram:
    """Counts of lengths in nanoseconds, exact to the nanosecond."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []

    def add(self, nanoseconds: Iterable[int] | NDArray[np.int64]) -> None:
        """Count more of them."""
        taken = nanoseconds if isinstance(nanoseconds, np.ndarray) else list(nanoseconds)
        self._parts.append(np.array(taken, np.int64))

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def sorted(self) -> NDArray[np.int64]:
        """All of them, ascending."""
        return np.sort(np.concatenate(self._parts)) if self._parts else np.zeros(0, np.int64)

    def percentile(self, percent: float) -> float:
        """Microseconds that `percent` of a hundred do not exceed; NaN when nothing was counted."""
        ordered = self.sorted()
        if not len(ordered):
            return float("nan")
        # The least one with at least that share at or below it: a value that did occur.
        rank = int(np.ceil(round(percent / 100 * len(ordered), 6)))
        return float(ordered[max(rank, 1) - 1]) / 1e3

    def most(self) -> float:
        """The longest, microseconds."""
        return self.percentile(100)

    def as_json(self) -> dict[str, list[float] | list[int]]:
        """{"us": ascending lengths, "counts": how many of each}, lengths to three digits."""
        values, counts = np.unique(_significant(self.sorted()), return_counts=True)
        return {"us": (values / 1e3).tolist(), "counts": counts.tolist()}

    def curve(self) -> list[tuple[float, float]]:
        """(one in how many is longer, microseconds): where the tail lies, for a chart."""
        ordered = self.sorted()
        if len(ordered) < 2:
            return []
        odds = np.geomspace(1, len(ordered), 120)
        at = np.minimum((len(ordered) * (1 - 1 / odds)).astype(int), len(ordered) - 1)
        return list(zip(odds.tolist(), (ordered[at] / 1e3).tolist(), strict=True))


def _significant(values: NDArray[np.int64]) -> NDArray[np.int64]:
    digits = np.floor(np.log10(np.maximum(values, 1))).astype(np.int64)
    step = 10 ** np.maximum(digits - (DIGITS - 1), 0)
    return np.asarray((values + step // 2) // step * step, np.int64)
