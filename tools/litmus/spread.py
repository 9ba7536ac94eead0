"""Cases over the processors of this machine, or over the workers of a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from coalesced.tools.litmus import explore
from coalesced.tools.litmus.cases import Case, Outcome, build, outcome


def outcomes(cases: Sequence[Case]) -> Generator[Outcome, None, None]:
    """The outcomes in the order of the cases, a process for each processor at a time.

    When the iterator is closed, also by Ctrl-C, the processes end.
    """
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    programs = dict.fromkeys(case._replace(model="") for case in cases)
    building = [pool.submit(build, case) for case in programs]  # outcome() raises their errors
    futures = [pool.submit(outcome, case) for case in cases]
    try:
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _end([*building, *futures])


def _end(futures: Sequence[Future[Any]]) -> None:
    """End the processes of futures that run, and those that these still start."""
    while running := [future for future in futures if future.running()]:
        explore.stop()
        wait(running, timeout=0.05)
