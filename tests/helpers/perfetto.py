"""Reads traces that are written for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def packets(path: Path) -> list[Any]:
    """The packets of a file; skips the test without the library."""
    trace = pytest.importorskip(
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="perfetto is not installed"
    )
    parsed = trace.Trace()
    parsed.ParseFromString(path.read_bytes())
    return list(parsed.packet)


def perfetto_events(path: Path) -> list[tuple[str, list[str], int]]:
    """Name, categories and time of each event."""
    return [
        (each.track_event.name, list(each.track_event.categories), each.timestamp)
        for each in packets(path)
        if each.track_event.type == each.track_event.TYPE_INSTANT
    ]
