"""A recorded run of a guest: its accesses, read from a trace of any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.printable import printable
from coalesced.tools.errors import BadInput
from coalesced.tools.traces import source
from coalesced.tools.traces.accesses import NOTHING_COUNTED, Counted, accesses
from coalesced.tools.traces.crossings import instructions
from coalesced.tools.traces.events import Events, Foreign, Kind
from coalesced.tools.traces.formats import FORMATS
from coalesced.tools.traces.reader import Names, Reader, Scanners
from coalesced.tools.traces.recognise import kind_of

PORTS_END = 0x10000  # accesses below, of at most 4 bytes, are taken as port I/O

_HEAD = 1 << 16
_LIMITS = source.Limits()


@dataclass(frozen=True)
class Trace:
    """A recorded run of a guest.

    `ops`: its accesses as `hv.abi.OP`, in order; the value of a read is what the guest got.
    `names`: names of regions; `region`: per access the index into them. `lines`: per access the
    line of the file, from 1. `counted`: the lines by their use. `apart`: lines of events whose
    addresses are offsets. `foreign`: other lines; `first_foreign`: the first of them. `strings`: by
    port, string instructions: all but their first value is unknown.
    """

    path: Path
    ops: NDArray[np.void]
    names: list[str]
    region: NDArray[np.intp]
    lines: NDArray[np.int64]
    counted: Counted = NOTHING_COUNTED
    apart: Mapping[str, int] = field(default_factory=dict)
    foreign: int = 0
    first_foreign: Foreign | None = None
    strings: Mapping[str, int] = field(default_factory=dict)

    @property
    def reads(self) -> NDArray[np.bool_]:
        """Per access: whether it is a load or an in."""
        kinds = self.ops["kind"]
        return np.asarray((kinds == OP_LOAD) | (kinds == OP_IN))

    def take(self, which: NDArray[np.bool_]) -> Self:
        """The chosen accesses; the counts stay the same."""
        ops, region, lines = self.ops[which], self.region[which], self.lines[which]
        return replace(self, ops=ops, region=region, lines=lines)


@dataclass(frozen=True)
class Recording:
    """All events of a file, of accesses and of exits, and the reader that counted its lines."""

    path: Path
    events: Events
    reader: Reader


def parts(
    path: Path,
    reader: Reader,
    limits: source.Limits = _LIMITS,
    scanners: Scanners | None = None,
    watch: source.Watch = abs,
) -> Iterator[Events]:
    """The events of a trace, plain or packed, part by part; which accesses are to ports is decided.

    `scanners`: read ahead; `watch`: called with the number of bytes read. Raises BadInput when
    there is no such file, it is damaged, too big, or holds no access.
    """
    head = _Head()
    blocks = source.blocks(path, limits, watch, reader.cut)
    count, accesses = 0, False
    for events in reader.read(head.of(blocks), scanners):
        count += len(events)
        if count > limits.accesses:
            raise BadInput(f"trace {path}: expected at most {limits.accesses:,} accesses, got more")
        accesses = accesses or bool(events.is_access.any())
        yield replace(events, kind=_kinds(events))
    if not accesses and not reader.apart:
        raise BadInput(f"{path}: {_nothing(reader, head.text)}")


class _Head:
    """Passes on the blocks of a file; `text` is the beginning of the first one."""

    text = b""

    def of(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the blocks on."""
        for block in blocks:
            self.text = self.text or block[:_HEAD]
            yield block


def read_events(path: Path, limits: source.Limits = _LIMITS) -> Recording:
    """All events of a trace; raises BadInput as `parts` does."""
    reader = Reader()
    return Recording(path, Events.joined([Events.none(), *parts(path, reader, limits)]), reader)


def read(path: Path, limits: source.Limits = _LIMITS) -> Trace:
    """Read the accesses of a trace, plain or packed, that a replay can repeat.

    Raises BadInput when there is no such file, it is damaged, too big, or holds no access.
    """
    return trace_of(read_events(path, limits))


def trace_of(recording: Recording) -> Trace:
    """The accesses of a recording that a replay can repeat. Raises BadInput if there is none."""
    reader, events = recording.reader, recording.events
    lines = events.take(events.is_access & (events.count == 1))
    strings = _strings(events.take(events.is_access & (events.count > 1)))
    counted = replace(NOTHING_COUNTED, lines=len(lines))
    if reader.format is not None and reader.format.handler_calls:
        lines, counted = accesses(lines, reader.names)
    if not len(lines) and not reader.apart:
        known = f", and {sum(strings.values()):,} string instructions, which have no values"
        raise BadInput(
            f"{recording.path}: expected at least one access of a vCPU, "
            f"got {counted.lines:,} of cpu -1, which is no vCPU{known if strings else ''}"
        )
    ops, rows, joined = instructions(_ops(lines))
    return Trace(
        recording.path,
        ops,
        names_of(reader.names),
        lines.name[rows].astype(np.intp),
        lines.number[rows],
        replace(counted, joined=counted.joined + joined),
        reader.apart,
        reader.foreign,
        reader.first_foreign,
        strings,
    )


def _strings(events: Events) -> dict[str, int]:
    """By port: the string instructions."""
    ports, counts = np.unique(events.address, return_counts=True)
    return {f"{port:#x}": n for port, n in zip(ports.tolist(), counts.tolist(), strict=True)}


_HOW = "; `coalesced advise --help` says how to record one"


def _nothing(reader: Reader, head: bytes) -> str:
    """The reason to refuse a file without an access."""
    if reader.format is not None:
        seen = f"{reader.format.name} without an access"
        expected, record = reader.format.expected, reader.format.record
        return f"expected at least one line {expected}, found {seen}; record with: {record}"
    known = ", ".join(each.name for each in FORMATS)
    text = f"expected at least one line with an access ({known}), found "
    kind = kind_of(head)
    first = reader.first_foreign
    if first is None:
        return f"{text}none{_HOW}"
    found = f"{kind}, which is not read" if kind else "none"
    return f"{text}{found}; line {first.line} is {shown(first)}{_HOW}"


def shown(foreign: Foreign) -> str:
    """The beginning of a line, with escapes."""
    text = foreign.text[:80].decode(errors="backslashreplace")
    return f"{text!r}{' …' if len(foreign.text) > 80 else ''}"


def names_of(names: Names) -> list[str]:
    """The names of regions for people."""
    return [printable(name.decode(errors="replace")) or "unnamed" for name in names.numbers]


def _kinds(events: Events) -> NDArray[np.uint8]:
    """The kinds; where the format does not say so, the address decides between port and memory."""
    last = events.address + (events.size - np.uint8(1))
    port = (last < PORTS_END) & (events.size <= 4)
    kinds = events.kind.copy()
    for kind, of_port, of_memory in (
        (Kind.READ, Kind.IN, Kind.LOAD),
        (Kind.WRITE, Kind.OUT, Kind.STORE),
    ):
        kinds = np.where(events.kind == kind, np.where(port, of_port, of_memory), kinds)
    return kinds.astype(np.uint8)


_OP_OF = {Kind.LOAD: OP_LOAD, Kind.STORE: OP_STORE, Kind.IN: OP_IN, Kind.OUT: OP_OUT}


def _ops(lines: Events) -> NDArray[np.void]:
    ops = np.empty(len(lines), dtype=OP)
    for kind, op in _OP_OF.items():
        ops["kind"][lines.kind == kind] = op
    ops["size"] = lines.size
    ops["address"] = lines.address
    ops["value"] = lines.value
    return ops
