"""Cases over the processors of this machine, or over the workers of a Dask cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

from coalesced.hv import signals
from coalesced.tools.litmus import explore
from coalesced.tools.litmus.cases import Case, Outcome, build, outcome
from coalesced.tools.runs import cluster

Outcomes = Generator[Outcome, None, None]


def outcomes(cases: Sequence[Case], scheduler: str | None = None) -> Outcomes:
    """The outcomes in the order of the cases, with a process for each processor or by a cluster.

    When the iterator is closed, also by Ctrl-C, what still runs here ends.
    """
    return over_processes(cases) if scheduler is None else over_cluster(cases, scheduler)


def over_processes(cases: Sequence[Case]) -> Outcomes:
    """The outcomes, with as many processes at a time as there are processors."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        # Amid a submit a handler's exception would lose a thread to the pool.
        with signals.deferred(signals.ENDING):
            for case in dict.fromkeys(case._replace(model="") for case in cases):
                pool.submit(build, case)  # outcome() raises its error
            futures = [pool.submit(outcome, case) for case in cases]
        for future in futures:
            yield future.result()
    finally:
        _end(pool)


def _end(pool: ThreadPoolExecutor) -> None:
    """Wait for the pool's threads: what they run ends, and what they were still to run."""
    pool.shutdown(wait=False, cancel_futures=True)
    waiting = threading.Thread(target=pool.shutdown)
    waiting.start()
    while waiting.is_alive():
        explore.stop()
        waiting.join(0.05)


def over_cluster(cases: Sequence[Case], address: str) -> Outcomes:
    """The outcomes by a cluster's workers, which have this package and a C compiler."""
    client = cluster.client(address)
    try:
        for future in [client.submit(outcome, case, pure=False) for case in cases]:
            yield future.result()
    finally:
        client.close()
