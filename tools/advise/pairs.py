"""Finds in the values of a recording whether a register selects what its neighbour holds.

An index register has no effect of its own: it chooses what the data register beside it reads and
writes. So it may wait in a ring however long it waits: only an access to the data can tell whether
it has arrived, and that either exits, which drains the ring first, or is queued behind it. The data
shows it: it is the same again when the index is, and another one when the index is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.advise import passes
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.spool import array_of
from coalesced.vmm.zone import Zone

REACH: Final = 8  # bytes between an index and its data, on either side
SELDOM: Final = 0.1
BESIDE: Final = 0.9  # of the writes of an index; other accesses come between a few
LEAST: Final = 4  # writes that make a pattern


class Values(NamedTuple):
    """The dependence of the data's values on the index that was written last."""

    answers: int = 0  # different values of the data that were read, counted up to 4
    selecting: int = 0  # values of the index whose data was the same again, and not the last one
    same: int = 0  # reads of the data that was there under the same index
    changed: int = 0  # reads of other data, though it was not written since it was read
    echoes: bool = False  # the data is the index, or a constant apart
    late: int = 0  # writes that the next access followed after more than the limit
    awaited: bool = False  # more than half of the writes of one value are late


@dataclass(frozen=True)
class Pair:
    """The accesses that follow the writes of a register, counted."""

    followed: int  # writes that another access of their thread follows
    beside: int  # of these, by an access to a neighbour
    line: int | None  # the first of them
    read: int  # of these, by a read
    polled: int  # of these reads, those that a read of the same address follows
    continued: int  # the neighbour's access goes on right behind it: a window
    values: Values = field(default_factory=Values)  # where it may be an index


def is_pair(pair: Pair, writes: int, before_window: int) -> bool:
    """Whether a neighbour mostly follows, often read, neither polled nor in a window."""
    if writes < LEAST or pair.beside < max(LEAST, BESIDE * pair.followed):
        return False
    most = SELDOM * pair.beside
    read_often = pair.read >= pair.beside / 4
    return read_often and max(pair.polled, pair.continued, before_window) <= most


def places(near: NDArray[np.int64]) -> int:
    """A bit for each distance at which much of the data is."""
    return sum(1 << n for n in np.flatnonzero(near >= max(1, SELDOM * near.sum())).tolist())


def values(
    recording: Recording, zones: Sequence[Zone], distances: Sequence[int], staleness: int
) -> list[Values]:
    """The values beside registers, which are in the order of their addresses."""
    if not zones:
        return []
    found = recording.spool.through(passes.pairs(array_of(zones, distances), staleness))
    return [Values(*each) for each in found]
