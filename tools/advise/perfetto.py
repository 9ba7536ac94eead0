"""A recording as a trace for Perfetto: a track for each thread, the ring's depth as counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from coalesced.tools.advise import passes
from coalesced.tools.advise.advice import Advice
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.spool import Records, array_of
from coalesced.tools.advise.zones import Force
from coalesced.tools.runs import progress
from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.perfetto import PerfettoTrace, Write
from coalesced.vmm.zone import Zone

_STEP: Final = 1_000  # nanoseconds from event to event where the recording has no times
_THREADS: Final = 1_000  # the track of thread n is _THREADS + n + 1
_DEPTH: Final = (1, 2)  # the tracks of the ring's depth: as recorded, with the advice
_TRACKS: Final = 1 << 33  # of a recording: a thread has a number of 32 bits


def export(recordings: Iterable[Recording], advice: Advice, write: Write) -> None:
    """Write the accesses, the exits, and the depth of the ring as recorded and with the advice.

    Of several recordings each has its own tracks, and its time begins with its first event.
    """
    trace = PerfettoTrace(write)
    alone = advice.recordings or [advice]
    for number, (recording, each) in enumerate(zip(recordings, alone, strict=True)):
        _Exported(trace, recording, each, number if advice.recordings else None).write()


class _Exported:
    """One of the recordings; `number` is None if it is the only one."""

    def __init__(
        self, trace: PerfettoTrace, recording: Recording, advice: Advice, number: int | None
    ) -> None:
        self._trace, self._recording = trace, recording
        self._prefix = "" if number is None else f"{advice.trace}: "
        self._first = (number or 0) * _TRACKS
        self._begin = recording.whole.begin if number is not None else 0
        self._threads: set[int] = set()
        self._depths: list[tuple[int, Depth]] = []
        self._before: dict[int, int] = {}  # the depth of each ring as it was written last
        force = Force.of(recording, advice.zones_in_force, advice.ring)
        for track, name, zones in (
            (_DEPTH[0], "ring, as recorded", advice.zones_in_force),
            (_DEPTH[1], "ring, with the advice", [*advice.zones_in_force, *advice.advised]),
        ):
            if zones:
                counter = self._track(track, name, "entries")
                self._depths.append((counter, Depth(recording, zones, force)))

    def write(self) -> None:
        """Write it."""
        spool = self._recording.spool
        with progress.shown(len(spool)) as bar:
            for start, part in spool.parts():
                for thread in np.unique(part["thread"]).tolist():
                    self._name(thread)
                behind = [(track, depth.of(part, start)) for track, depth in self._depths]
                self._events(start, part, behind)
                bar.advance(len(part))

    def _track(self, track: int, name: str, unit: str | None = None) -> int:
        self._trace.track(self._first + track, self._prefix + name, unit)
        return self._first + track

    def _name(self, thread: int) -> None:
        if thread not in self._threads:
            self._threads.add(thread)
            name = "no vCPU" if thread < 0 else f"vCPU thread {thread}"
            self._track(_THREADS + thread + 1, name)

    def _events(self, start: int, part: Records, depths: Sequence[tuple[int, list[int]]]) -> None:
        """Events from the index `start` on, each with the depth of the rings behind it."""
        whole, trace = self._recording.whole, self._trace
        times = (part["time"] - self._begin).tolist()
        if not whole.timed:
            times = [(start + n) * _STEP for n in range(len(part))]
        exits = (part["traits"] & passes.EXIT) != 0
        if not whole.has_exits:
            begins = (part["traits"] & (passes.READ | passes.WRITE | passes.ANNOUNCED)) != 0
            exits = begins & ((part["traits"] & passes.ENDED) == 0)
        rows = part[["kind", "address", "size", "value", "thread"]].tolist()
        for n, (*access, thread) in enumerate(rows):
            track = self._first + _THREADS + thread + 1
            trace.instant(times[n], track, _label(*access), bool(exits[n]))
            for counter, values in depths:
                if values[n] != self._before.get(counter):
                    self._before[counter] = values[n]
                    trace.value(times[n], counter, values[n])


class Depth:
    """The entries in the ring."""

    def __init__(self, recording: Recording, zones: Sequence[Zone], force: Force) -> None:
        ring = (force.ring.slots, force.ring.mended, force.ring.start)
        recorded = array_of(force.zones)
        self._step = passes.depth(recording.whole, recorded, array_of(zones), force.drains, ring)

    def of(self, part: Records, start: int) -> list[int]:
        """Behind each of the next events."""
        passes.run(self._step, part, start)
        found: list[int] = np.frombuffer(passes.result(self._step), np.int64).tolist()
        return found


def _label(kind: int, address: int, size: int, value: int) -> str:
    name = Kind(kind).name.lower().replace("_", " ")
    return f"{name} {address:#x}/{size} {value:#x}" if size else name
