"""The throughput and latency of a ring between two processes."""

from __future__ import annotations

import time

import numpy as np

from coalesced.hv.errors import HostError
from coalesced.tools.rings.control import Word
from coalesced.tools.rings.sides import Job, Pair, Ring

ENTRIES, PYTHON_ENTRIES = 1_000_000, 4_000
_SINGLE, _PYTHON_SINGLE = 20_000, 1_000
_PATIENCE = 20.0  # seconds
_PAUSE = 400


def nanoseconds(ring: Ring, cpus: tuple[int, int], entries: int = ENTRIES) -> float:
    """Nanoseconds per entry, in batches of 64 through 1,024 entries. Raises HostError."""
    if ring.in_python:
        entries = PYTHON_ENTRIES
    pair = Pair(ring, Job(1024, 64, until=entries, cpus=cpus))
    try:
        return _through(pair) / entries
    finally:
        pair.close()


def latency(ring: Ring, cpus: tuple[int, int]) -> float:
    """Median microseconds from a push's start to the pop's return, while the consumer looks.

    Raises HostError.
    """
    until = _PYTHON_SINGLE if ring.in_python else _SINGLE
    pair = Pair(ring, Job(64, 1, pause=_PAUSE, until=until, cpus=cpus))
    try:
        _through(pair)
        return float(np.median(pair.control.latencies())) / 1e3
    finally:
        pair.close()


def _through(pair: Pair) -> int:
    """Nanoseconds until all entries are through."""
    started = time.monotonic_ns()
    end = started + int(_PATIENCE * 1e9)
    ready = pair.go()
    started = time.monotonic_ns()
    while ready and pair.control[Word.next] < pair.job.until:
        trouble = pair.trouble()
        if trouble or time.monotonic_ns() > end:
            raise HostError(f"{pair.ring.name}: {trouble or f'no end within {_PATIENCE:g} s'}")
        time.sleep(0.0001)
    if not ready:
        raise HostError(f"{pair.ring.name}: {pair.trouble() or 'a side does not start'}")
    return time.monotonic_ns() - started
