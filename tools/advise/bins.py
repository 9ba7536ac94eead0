"""Waits of the writes of each range, counted in bins; each bin keeps its longest wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.advise import passes

WAIT_BINS: Final = 40  # the last one also holds what is longer than 2^39 ns, 9 minutes


@dataclass(frozen=True)
class Waits:
    """Nanoseconds from a write to the next access that drains the ring.

    `p50` and `p99` are at most a hundredth too long.
    """

    p50: int
    p99: int
    max: int


@dataclass(frozen=True)
class Bins:
    """The waits of all ranges, sorted by range and length."""

    range: NDArray[np.int64]
    count: NDArray[np.int64]
    longest: NDArray[np.int64]

    @classmethod
    def of(cls, found: passes.Bins) -> Self:
        """Sort the result of a pass."""
        rows = np.array(sorted(found), np.int64).reshape(-1, 4)
        return cls(rows[:, 0], rows[:, 2], rows[:, 3])

    def _of_range(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first, end = np.searchsorted(self.range, (number, number + 1))
        return self.count[first:end], self.longest[first:end]

    def waits(self, number: int) -> Waits | None:
        """The percentiles of a range; None if no wait is known."""
        count, longest = self._of_range(number)
        if not len(count):
            return None
        upto = np.cumsum(count)
        # The same waits as numpy's percentile takes with the method `higher`.
        at = np.ceil((upto[-1] - 1) * np.array((0.5, 0.99)))
        p50, p99 = longest[np.searchsorted(upto, at, side="right")].tolist()
        return Waits(p50, p99, int(longest[-1]))

    def powers(self, number: int) -> list[int]:
        """The waits of a range by powers of two: bin n has those above 2^(n-1) and up to 2^n.

        Bin 0 has 0 and 1 ns.
        """
        count, longest = self._of_range(number)
        power = np.ceil(np.log2(np.maximum(longest, 1).astype(np.float64))).astype(np.intp)
        counted = np.zeros(WAIT_BINS, np.int64)
        np.add.at(counted, np.minimum(power, WAIT_BINS - 1), count)
        found: list[int] = counted.tolist()
        return found
