"""A recording as a trace for Perfetto: a track for each thread, the ring's depth as counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from coalesced.tools.advise import passes
from coalesced.tools.advise.advice import Advice
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.spool import Records, array_of
from coalesced.tools.advise.zones import Force
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import progress
from coalesced.tools.traces.events import Kind
from coalesced.vmm.zone import Zone

_SEQUENCE: Final = 1
_STEP: Final = 1_000  # nanoseconds from event to event where the recording has no times
_THREADS: Final = 1_000  # the track of thread n is _THREADS + n + 1
_DEPTH: Final = (1, 2)  # the tracks of the ring's depth: as recorded, with the advice

Write = Callable[[bytes], None]


def available() -> None:
    """Raise BadInput if the library is missing."""
    _library()


def export(recording: Recording, advice: Advice, write: Write) -> None:
    """Write the accesses, the exits, and the depth of the ring as recorded and with the advice."""
    trace = _Trace(write)
    force = Force.of(recording, advice.zones_in_force, advice.ring)
    depths = []
    for track, name, zones in (
        (_DEPTH[0], "ring, as recorded", advice.zones_in_force),
        (_DEPTH[1], "ring, with the advice", [*advice.zones_in_force, *advice.advised]),
    ):
        if zones:
            trace.track(track, name, "entries")
            depths.append((track, Depth(recording, zones, force)))
    threads: set[int] = set()
    before = dict.fromkeys((track for track, _ in depths), -1)
    with progress.shown(len(recording.spool)) as bar:
        for start, part in recording.spool.parts():
            for thread in np.unique(part["thread"]).tolist():
                if thread not in threads:
                    threads.add(thread)
                    name = "no vCPU" if thread < 0 else f"vCPU thread {thread}"
                    trace.track(_THREADS + thread + 1, name)
            behind = [(track, depth.of(part, start)) for track, depth in depths]
            _events(trace, recording, start, part, behind, before)
            bar.advance(len(part))


def _events(
    trace: _Trace,
    recording: Recording,
    start: int,
    part: Records,
    depths: Sequence[tuple[int, list[int]]],
    before: dict[int, int],
) -> None:
    """Events from the index `start` on; `before`: the depth of each ring as it was written last."""
    times = part["time"].tolist()
    if not recording.whole.timed:
        times = [(start + n) * _STEP for n in range(len(part))]
    exits = (part["traits"] & passes.EXIT) != 0
    if not recording.whole.has_exits:
        begins = (part["traits"] & (passes.READ | passes.WRITE | passes.ANNOUNCED)) != 0
        exits = begins & ((part["traits"] & passes.ENDED) == 0)
    rows = part[["kind", "address", "size", "value", "thread"]].tolist()
    for n, (*access, thread) in enumerate(rows):
        trace.instant(times[n], thread + _THREADS + 1, _label(*access), bool(exits[n]))
        for track, values in depths:
            if values[n] != before[track]:
                before[track] = values[n]
                trace.value(times[n], track, values[n])


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


class _Trace:
    """Packets of a Perfetto trace, written one by one."""

    def __init__(self, write: Write) -> None:
        builder, self._messages = _library()
        self._builder = builder(SimpleNamespace(write=write))

    def track(self, number: int, name: str, unit: str | None = None) -> None:
        """Name a track of events; with a unit, of a counter."""
        packet = self._packet(0)
        packet.track_descriptor.uuid = number
        packet.track_descriptor.name = name
        if unit is not None:
            packet.track_descriptor.counter.unit_name = unit
        self._builder.write_packet(packet)

    def instant(self, at: int, track: int, name: str, exits: bool) -> None:
        """An event; `exits`: in the category of exits."""
        packet = self._event(at, track, self._messages.TrackEvent.TYPE_INSTANT)
        packet.track_event.name = name
        packet.track_event.categories.append("exit" if exits else "access")
        self._builder.write_packet(packet)

    def value(self, at: int, track: int, value: int) -> None:
        """A new value of a counter."""
        packet = self._event(at, track, self._messages.TrackEvent.TYPE_COUNTER)
        packet.track_event.counter_value = value
        self._builder.write_packet(packet)

    def _event(self, at: int, track: int, kind: int) -> Any:
        packet = self._packet(at)
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet

    def _packet(self, at: int) -> Any:
        packet = self._builder.create_packet()
        packet.timestamp = at
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet


def _library() -> tuple[Any, Any]:
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2  # noqa: PLC0415
        from perfetto.trace_builder.proto_builder import (  # noqa: PLC0415
            StreamingTraceProtoBuilder,
        )
    except ImportError as error:
        raise BadInput(
            f"--perfetto: not installed ({error}); pip install 'coalesced-mmio[advise]'"
        ) from None
    return StreamingTraceProtoBuilder, perfetto_trace_pb2
