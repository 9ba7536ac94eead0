"""The throughput and latency of a ring between two processes."""

from __future__ import annotations

import time

import numpy as np

from coalesced.hv.errors import HostError
from coalesced.tools.rings.control import Word
from coalesced.tools.rings.drivers import Job
from coalesced.tools.rings.patience import HANG
from coalesced.tools.rings.sides import Pair, Ring

ENTRIES, PYTHON_ENTRIES = 1_000_000, 4_000
_SINGLE, _PYTHON_SINGLE = 20_000, 1_000
_MOST = 2.0  # seconds of a measurement, however few entries came through
_PAUSE = 400
_HELD = 1 << 16  # entries; far more than a ring of 1,024 may hold
_WRONG = (Word.lost, Word.duplicated, Word.reordered, Word.torn)


def nanoseconds(ring: Ring, cpus: tuple[int, int], entries: int = ENTRIES) -> float:
    """Nanoseconds per entry, in batches of 64 through 1,024 entries; `entries` at most.

    Raises HostError when a side fails, when nothing comes through, or when entries are wrong.
    """
    if ring.in_python:
        entries = PYTHON_ENTRIES
    pair = Pair(ring, Job(min(1024, ring.most), 64, until=entries, cpus=cpus))
    try:
        return _through(pair)
    finally:
        pair.close()


def latency(ring: Ring, cpus: tuple[int, int]) -> float:
    """Median microseconds from a push's start to the pop's return, while the consumer looks.

    Raises HostError as `nanoseconds` does.
    """
    until = _PYTHON_SINGLE if ring.in_python else _SINGLE
    pair = Pair(ring, Job(min(64, ring.most), 1, pause=_PAUSE, until=until, cpus=cpus))
    try:
        _through(pair)
        return float(np.median(pair.control.latencies())) / 1e3
    finally:
        pair.close()


def _through(pair: Pair) -> float:
    """Nanoseconds per entry, of all entries or of those that come through in time."""
    if not pair.go():
        raise HostError(f"{pair.ring.name}: {pair.trouble() or 'a side does not start'}")
    control, until, started = pair.control, pair.job.until, time.monotonic()
    patience, took, done = pair.patience(), 0.0, 0
    while done < until and (took < _MOST or not done):
        if trouble := pair.trouble():
            raise HostError(f"{pair.ring.name}: {trouble}")
        if patience.over(done):
            raise HostError(f"{pair.ring.name}: no entry within {HANG:g} s")
        time.sleep(0.0001)
        done, took = control[Word.next], time.monotonic() - started
    wrong = [f"{control[word]} {word.name}" for word in _WRONG if control[word]]
    if (behind := control[Word.pushed] - control[Word.next]) > _HELD:
        wrong.append(f"{behind} pushed and not popped")
    if wrong:
        raise HostError(f"{pair.ring.name}: no figure for a broken ring: {', '.join(wrong)}")
    return took * 1e9 / done
