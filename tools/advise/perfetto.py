"""A recording as a trace for Perfetto: a track for each thread, the ring's depth as counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from coalesced.tools.advise import zones as zoning
from coalesced.tools.advise.advice import Advice
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.timeline import Timeline
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.events import NO_TIME, Events, Kind, Positions
from coalesced.vmm.zone import Zone

_SEQUENCE: Final = 1
_STEP: Final = 1_000  # nanoseconds from event to event where the recording has no times
_THREADS: Final = 1_000  # the track of thread n is _THREADS + n + 1
_DEPTH: Final = (1, 2)  # the tracks of the ring's depth: as recorded, with the advice

Write = Callable[[bytes], None]


def available() -> None:
    """Raise BadInput if the library is missing."""
    _library()


def export(events: Events, advice: Advice, write: Write) -> None:
    """Write the accesses, the exits, and the depth of the ring as recorded and with the advice."""
    trace = _Trace(write)
    timeline = Timeline(events)
    threads = np.unique(events.thread).tolist()
    for thread in threads:
        name = "no vCPU" if thread < 0 else f"vCPU thread {thread}"
        trace.track(_THREADS + thread + 1, name)
    time = events.time
    if (time == NO_TIME).any():
        time = np.arange(len(events)) * _STEP
    depths = []
    for track, name, zones in (
        (_DEPTH[0], "ring, as recorded", advice.zones_in_force),
        (_DEPTH[1], "ring, with the advice", [*advice.zones_in_force, *advice.advised]),
    ):
        if zones:
            trace.track(track, name, "entries")
            depths.append((track, depth(timeline, zones, advice.zones_in_force, advice.ring)))
    exits = timeline.all_exits.tolist()
    kinds, addresses = events.kind.tolist(), events.address.tolist()
    sizes, values = events.size.tolist(), events.value.tolist()
    tracks = (events.thread + _THREADS + 1).tolist()
    for n, at in enumerate(time.tolist()):
        trace.instant(at, tracks[n], _label(kinds[n], addresses[n], sizes[n], values[n]), exits[n])
        for track, values_of in depths:
            if n == 0 or values_of[n] != values_of[n - 1]:
                trace.value(at, track, int(values_of[n]))


def depth(
    timeline: Timeline, zones: Sequence[Zone], recorded: Sequence[Zone], ring: Ring
) -> Positions:
    """Per event: the entries in the ring behind it."""
    unseen = zoning.unseen_drains(timeline, recorded, ring)
    queued = zoning.inside(timeline.events, zones)
    exits = zoning.Exits(timeline, zones).at(ring, unseen)
    behind = zoning.before_since(queued & ~exits, exits, unseen) + (queued & ~exits)
    return np.asarray(np.where(exits, 0, behind))


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
