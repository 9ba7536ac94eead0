"""Spreads recordings, or the blocks of one, over this machine or over a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coalesced.hv import children
from coalesced.hv.errors import HostError
from coalesced.tools.advise.advice import Advice
from coalesced.tools.advise.fleet import Study
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import cluster, progress
from coalesced.tools.traces.reader import Scanners

LARGE: Final = 1 << 26  # bytes of a recording that no worker gets as a whole
THREADS: Final = 4
AHEAD: Final = 16  # blocks, each with its events, that are away at once
TRIES: Final = 3  # of what was on a process when it died


def here(function: Study, paths: Sequence[Path]) -> list[Advice]:
    """In this process, one after the other."""
    return [function(path, path) for path in paths]


@dataclass(frozen=True)
class Processes:
    """Processes of this machine. What was on one that died is done again."""

    count: int

    def __call__(self, function: Study, paths: Sequence[Path]) -> list[Advice]:
        """Raises what the function raises, and HostError if processes die again and again."""
        if self.count < 2 or len(paths) < 2:
            return here(function, paths)
        found: dict[int, Advice] = {}
        with progress.shown(len(paths)) as bar:
            for _ in range(TRIES):
                left = [number for number in range(len(paths)) if number not in found]
                try:
                    self._go_on(function, paths, left, found, bar)
                except BrokenProcessPool:
                    continue
                return [found[number] for number in range(len(paths))]
        raise HostError(f"processes that read recordings died {TRIES} times, out of memory?")

    def _go_on(
        self,
        function: Study,
        paths: Sequence[Path],
        left: Sequence[int],
        found: dict[int, Advice],
        bar: progress.Bar,
    ) -> None:
        children.keep_folder_out()
        context = multiprocessing.get_context("spawn")
        size = min(self.count, len(left))
        with ProcessPoolExecutor(size, context, children.begin) as pool:
            futures = {n: pool.submit(function, paths[n], paths[n]) for n in left}
            try:
                for number, future in futures.items():
                    found[number] = future.result()
                    bar.advance()
            except BaseException:
                for process in multiprocessing.active_children():
                    process.kill()  # otherwise the end of the block waits for what it reads
                raise


@contextmanager
def threads(count: int) -> Iterator[Scanners]:
    """Threads for the blocks of one recording, THREADS at most; more wait for the next block.

    Not processes: the scan in C holds no lock of Python's, and to copy a block to a process and its
    events back takes more time than to scan it (219 MB: 1.4 s of CPU time with threads, 4.1 s with
    processes, twice as long by the clock).
    """
    count = min(count, THREADS)
    with ThreadPoolExecutor(count) as pool:
        yield Scanners(pool, count)


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask scheduler. They get the recordings' contents, not their paths."""

    address: str
    connect: float = cluster.CONNECT  # seconds in which the scheduler must answer

    def __call__(self, function: Study, paths: Sequence[Path]) -> list[Advice]:
        """Raises what the function raises, and BadInput if there is no cluster.

        Of a large recording the workers only scan the blocks, so that none keeps it as a whole.
        """
        if not paths:
            return []
        found: dict[int, Advice] = {}
        waiting: deque[tuple[int, Any]] = deque()
        with self.scanners() as found_by, progress.shown(len(paths)) as bar:
            for number, path in enumerate(paths):
                if path.stat().st_size > LARGE:
                    found[number] = function(path, path, found_by)
                    continue
                content = path.read_bytes()
                waiting.append((number, found_by.pool.submit(on_content, function, path, content)))
                if len(waiting) > found_by.ahead:
                    first, future = waiting.popleft()
                    found[first] = future.result()
                    bar.advance()
            for first, future in waiting:
                found[first] = future.result()
                bar.advance()
        return [found[number] for number in range(len(paths))]

    @contextmanager
    def scanners(self) -> Iterator[Scanners]:
        """The workers, for the blocks of one recording."""
        client = cluster.client(self.address, self.connect)
        try:
            threads = sum(client.nthreads().values())
            yield Scanners(client, min(2 * max(threads, 1), AHEAD))
        finally:
            client.close()


def scanners(jobs: int, scheduler: str | None) -> AbstractContextManager[Scanners]:
    """The readers of a recording: `jobs` threads (0: one for each CPU), or a cluster's workers."""
    return threads(jobs or default_count()) if scheduler is None else Cluster(scheduler).scanners()


def on_content(function: Study, shown: Path, content: bytes) -> Advice:
    """On a worker: call the function on a file with this content."""
    with tempfile.TemporaryDirectory(prefix="coalesced-") as folder:
        path = Path(folder, "recording")
        path.write_bytes(content)
        try:
            return function(path, shown)
        except BadInput as error:
            raise BadInput(str(error).replace(str(path), str(shown))) from None


def default_count() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
