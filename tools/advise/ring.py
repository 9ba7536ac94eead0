"""The ring of a kernel: how many entries it holds before a write exits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from coalesced.hv.abi import ring_slots
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.events import Mask, Positions

MENDED: Final = (6, 12)  # Linux: the first one with the right check
_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[^0-9].*)?")


@dataclass(frozen=True)
class Ring:
    """A ring of `slots` slots, one of which stays free.

    Kernels before 6.12 take in 32 bits the remainder of first - last - 1, a difference that should
    wrap at the number of slots. So a ring of 170 slots is full with 85 entries where they do not
    go round its end, and with 169 where they do. `start`: the slot of the first entry recorded.
    """

    slots: int = ring_slots(1)
    mended: bool = True
    start: int = 0

    @property
    def most(self) -> int:
        """The entries that it holds at best."""
        return self.slots - 1

    @property
    def least(self) -> int:
        """The entries that it holds from any slot on."""
        return self.most if self.mended else ((1 << 32) - 1) % self.slots

    def with_pages(self, pages: int) -> Ring:
        """The same kernel's ring with another number of pages."""
        return replace(self, slots=ring_slots(pages), start=0 if pages > 1 else self.start)

    def is_full(self, entries: Positions, queued: Positions) -> Mask:
        """Whether it is full with `entries`, the first of them behind `queued` others."""
        if self.mended:
            return np.asarray(entries >= self.most)
        first = (self.start + queued) % self.slots
        return np.asarray(
            entries >= np.where(first + self.least < self.slots, self.least, self.most)
        )


def ring_of(kernel: str | None) -> Ring:
    """The ring of a Linux version, of a new one without. Raises BadInput."""
    if kernel is None:
        return Ring()
    found = _VERSION.fullmatch(kernel)
    if found is None:
        raise BadInput(f"--kernel {kernel}: expected a version of Linux, as 6.1 or 5.10.0-28-amd64")
    return Ring(mended=(int(found[1]), int(found[2])) >= MENDED)
