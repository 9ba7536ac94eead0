"""A recorded run of a guest, read from QEMU's traces of the events memory_region_ops_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.printable import printable
from coalesced.tools.errors import BadInput
from coalesced.tools.traces import source
from coalesced.tools.traces.accesses import NOTHING_COUNTED, Counted, accesses
from coalesced.tools.traces.qemu import EXPECTED, Foreign, Lines, Names, Reader
from coalesced.tools.traces.recognise import kind_of

PORTS_END = 0x10000  # accesses below, of at most 4 bytes, are taken as port I/O

_LIMITS = source.Limits()

__all__ = ["EXPECTED", "PORTS_END", "Trace", "read", "shown"]

_HEAD = 1 << 16


@dataclass(frozen=True)
class Trace:
    """A recorded run of a guest.

    `ops`: its accesses as `hv.abi.OP`, in order; the value of a read is what the guest got.
    `names`: names of regions; `region`: per access the index into them. `lines`: per access the
    line of the file, from 1. `counted`: the lines by their use. `apart`: lines of events whose
    addresses are offsets. `foreign`: other lines; `first_foreign`: the first of them.
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

    @property
    def reads(self) -> NDArray[np.bool_]:
        """Per access: is it a load or an in?"""
        kinds = self.ops["kind"]
        return np.asarray((kinds == OP_LOAD) | (kinds == OP_IN))


def read(path: Path, limits: source.Limits = _LIMITS) -> Trace:
    """Read a trace, plain or gzip.

    Raises BadInput when there is no such file, it is damaged, too big, or holds no access.
    """
    reader = Reader()
    parts = [Lines.none()]
    head = b""
    found = 0
    for block in source.blocks(path, limits):
        head = head or block[:_HEAD]
        parts.append(reader.read(block))
        found += len(parts[-1])
        if found > limits.accesses:
            raise BadInput(f"trace {path}: expected at most {limits.accesses:,} accesses, got more")
    lines = Lines.joined(parts)
    parts.clear()
    guest, counted = accesses(lines, reader.names)
    if not len(guest) and not reader.apart:
        raise BadInput(f"{path}: {_nothing(reader, counted, head)}")
    return Trace(
        path,
        _ops(guest),
        _shown(reader.names),
        guest.name.astype(np.intp),
        guest.number,
        counted,
        reader.apart,
        reader.foreign,
        reader.first_foreign,
    )


def _nothing(reader: Reader, counted: Counted, head: bytes) -> str:
    """The reason to refuse a file without an access."""
    if counted.lines:
        return (
            f"expected at least one line {EXPECTED} of a vCPU, "
            f"got {counted.lines:,} of cpu -1, which is none"
        )
    text = f"expected at least one line {EXPECTED}, found "
    kind = kind_of(head)
    first = reader.first_foreign
    if first is None:
        return f"{text}none"
    found = f"{kind}, which replay does not read" if kind else "none"
    return f"{text}{found}; line {first.line} is {shown(first)}"


def shown(foreign: Foreign) -> str:
    """The beginning of a line, with escapes."""
    text = foreign.text[:80].decode(errors="backslashreplace")
    return f"{text!r}{' …' if len(foreign.text) > 80 else ''}"


def _shown(names: Names) -> list[str]:
    return [printable(name.decode(errors="replace")) or "unnamed" for name in names.numbers]


def _ops(lines: Lines) -> NDArray[np.void]:
    last = lines.address + (lines.size - np.uint32(1))
    port = (last < PORTS_END) & (lines.size <= 4)
    ops = np.empty(len(lines), dtype=OP)
    ops["kind"] = np.where(
        port,
        np.where(lines.is_read, OP_IN, OP_OUT),
        np.where(lines.is_read, OP_LOAD, OP_STORE),
    )
    ops["size"] = lines.size
    ops["address"] = lines.address
    ops["value"] = lines.value
    return ops
