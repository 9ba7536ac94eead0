"""The last minute as a trace for Perfetto: the accesses, and the ring while it is drained."""

from __future__ import annotations

from typing import Final

from coalesced.tools.traces.perfetto import PerfettoTrace

EXITS: Final = 1
QUEUED: Final = 2
RING: Final = 3


def perfetto(stamped: bytes) -> bytes:
    """The lines of `Keep.stamped` in Perfetto's format. Raises BadInput without the library."""
    parts: list[bytes] = []
    trace = PerfettoTrace(parts.append)
    trace.track(EXITS, "exits")
    trace.track(QUEUED, "queued writes, when they reach their device")
    trace.track(RING, "ring, while it is drained", "entries")
    before = 0
    for line in stamped.decode().splitlines():
        time, left, access = line.split(" ", 2)
        at, depth = int(time), int(left)
        trace.instant(at, QUEUED if depth else EXITS, _label(access), not depth)
        if depth != before:
            trace.value(at, RING, depth)
        before = depth
        if depth == 1:
            trace.value(at, RING, 0)
            before = 0
    return b"".join(parts)


def _label(access: str) -> str:
    """A line of the tracer: `vga-lowmem write 0xa0000/1 0xff`."""
    words, _, name = access.partition(" name ")
    kind, *rest = words.split(" ")
    members = dict(zip(rest[::2], rest[1::2], strict=True))
    verb = kind.rpartition("_")[2]
    return f"{name.strip(chr(39))} {verb} {members['addr']}/{members['size']} {members['value']}"
