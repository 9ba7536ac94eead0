"""The recording in equal parts of its time, and how long the writes of a range waited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.traces.events import NO_TIME, Mask, Positions

PARTS: Final = 96
WAIT_BINS: Final = 40  # the last one also holds what is longer than 2^39 ns, 9 minutes


@dataclass(frozen=True)
class Parts:
    """Divides the events into PARTS: by time, or by their order if a time is unknown."""

    of: Positions  # per event
    seconds: float | None  # of one part

    @classmethod
    def divide(cls, timeline: Timeline) -> Parts:
        """The parts of a recording."""
        time = timeline.events.time
        span = int(time.max() - time.min()) if len(time) else 0
        if span <= 0 or (time == NO_TIME).any():
            order = np.arange(len(time), dtype=np.float64)
            return cls((order * PARTS / max(len(time), 1)).astype(np.intp), None)
        share = (time - time.min()) / span
        return cls(np.minimum((share * PARTS).astype(np.intp), PARTS - 1), span / PARTS / 1e9)

    def count(self, which: Mask | Positions) -> list[int]:
        """How many of the chosen events lie in each part."""
        counted: list[int] = np.bincount(self.of[which], minlength=PARTS).tolist()
        return counted


def wait_bins(waits: Positions) -> list[int]:
    """Writes by the power of two of the nanoseconds that they waited; unknown waits are left out.

    Bin 0 holds 0 and 1 ns, bin n more than 2^(n-1) and up to 2^n.
    """
    known = np.maximum(waits[waits >= 0], 1).astype(np.float64)
    bins = np.minimum(np.ceil(np.log2(known)).astype(np.intp), WAIT_BINS - 1)
    counted: list[int] = np.bincount(bins, minlength=WAIT_BINS).tolist()
    return counted
