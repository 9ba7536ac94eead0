"""Writes traces in Perfetto's format (extra `advise`)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from coalesced.tools.errors import BadInput

_SEQUENCE: Final = 1

Write = Callable[[bytes], None]


def available() -> None:
    """Raise BadInput if the library is missing."""
    _library()


class PerfettoTrace:
    """Packets of a Perfetto trace, written one by one. Times are nanoseconds."""

    def __init__(self, write: Write) -> None:
        """Raises BadInput without the library."""
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
            f"Perfetto's format: not installed ({error}); pip install 'coalesced-mmio[advise]'"
        ) from None
    return StreamingTraceProtoBuilder, perfetto_trace_pb2
