"""A recording of any length: its events in a spool, and what was counted while they were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coalesced.tools.advise import passes
from coalesced.tools.advise.spool import PART, Records, Spool, Whole, records_of
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import progress
from coalesced.tools.traces import source, trace
from coalesced.tools.traces.accesses import Joiner
from coalesced.tools.traces.events import EXITS, NO_TIME, Events, Kind
from coalesced.tools.traces.reader import Reader, Scanners

MEGABYTE = 1e6


@dataclass(frozen=True)
class Recording:
    """The accesses of the guest and its exits; QEMU's calls of handlers joined to accesses."""

    path: Path
    reader: Reader
    spool: Spool
    whole: Whole
    lines: int  # that were recognised
    counts: Mapping[str, int]  # events by kind
    string_accesses: int
    in_kernel: int
    threads: int


def read(
    path: Path,
    scanners: Scanners | None = None,
    limits: source.Limits = source.ENDLESS,
    part: int = PART,
) -> Recording:
    """Read a recording; `scanners` read ahead; `part`: the events that are judged at once.

    Raises BadInput if there is no such file, it is damaged, or no access has an address; HostError
    if there is no room for its events.
    """
    reader = Reader()
    kept = _Kept(part)
    with progress.shown(_size(path)) as bar:
        watched = _Watched(bar)
        found = trace.parts(path, reader, limits, scanners, watched.read)
        for events in _guest_events(reader, found, kept):
            kept.add(events)
            watched.show()
    recording = kept.recording(path, reader)
    if not any(recording.counts.get(name) for name in ("load", "store", "in", "out")):
        apart = sum(reader.apart.values())
        found_only = f"{apart:,} lines whose addresses are offsets" if apart else "those of cpu -1"
        raise BadInput(
            f"{path}: expected accesses of a vCPU at absolute addresses, found only {found_only}"
        )
    return recording


def of_events(events: Events, path: Path) -> Recording:
    """The recording of these accesses."""
    kept = _Kept(PART)
    kept.lines = len(events)
    kept.add(events)
    return kept.recording(path, Reader())


def _guest_events(reader: Reader, found: Iterable[Events], kept: _Kept) -> Iterator[Events]:
    joiner = Joiner(reader.names)
    for events in found:
        kept.lines += len(events)
        calls = reader.format is not None and reader.format.handler_calls
        yield joiner.feed(events) if calls else events
    yield joiner.end()


class _Kept:
    """Adds events to a spool, and counts them."""

    def __init__(self, part: int) -> None:
        self.lines = 0
        self._spool = Spool(part)
        self._order = passes.order()
        self._kinds = np.zeros(len(Kind), np.int64)
        self._counts: Counter[str] = Counter()
        self._times: list[int] = []  # the first and the last one
        self._untimed = False

    def add(self, events: Events) -> None:
        """Add events of the guest."""
        if not len(events):
            return
        records = records_of(events)
        self._count(records)
        passes.run(self._order, records, len(self._spool))
        self._spool.append(records)
        self._spool.correct(passes.result(self._order)[0])

    def _count(self, records: Records) -> None:
        self._kinds += np.bincount(records["kind"], minlength=len(Kind))
        access = (records["traits"] & (passes.READ | passes.WRITE)) != 0
        kernel = (records["traits"] & passes.KERNEL) != 0
        self._counts["strings"] += int((access & (records["count"] > 1)).sum())
        self._counts["kernel"] += int((access & kernel).sum())
        time = records["time"]
        known = time if time.min() != NO_TIME else time[time != NO_TIME]
        self._untimed |= len(known) < len(time)
        if len(known):
            times = [*self._times, int(known.min()), int(known.max())]
            self._times = [min(times), max(times)]

    def recording(self, path: Path, reader: Reader) -> Recording:
        """The recording, when all its records are added."""
        corrections, threads = passes.end(self._order)
        self._spool.correct(corrections)
        exits = self._kinds[list(EXITS)]
        begin, end = self._times or (NO_TIME, NO_TIME)
        whole = Whole(bool(exits.any()), not self._untimed, begin, end, len(self._spool))
        kinds = {kind.name.lower(): int(self._kinds[kind]) for kind in Kind if self._kinds[kind]}
        strings, kernel = self._counts["strings"], self._counts["kernel"]
        return Recording(
            path, reader, self._spool, whole, self.lines, kinds, strings, kernel, threads
        )


def _size(path: Path) -> int | None:
    """The bytes of a file; None for a pipe."""
    try:
        return path.stat().st_size or None
    except OSError:
        return None


class _Watched:
    """Shows how fast a file is read."""

    def __init__(self, bar: progress.Bar) -> None:
        self._bar = bar
        self._read = 0

    def read(self, count: int) -> None:
        """Note that this many more bytes were read."""
        self._read += count

    def show(self) -> None:
        """Show it."""
        self._bar.show_rate("reading", self._read, "MB", MEGABYTE)
