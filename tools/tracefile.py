"""Reading QEMU's traces of the events memory_region_ops_read and memory_region_ops_write."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from tools.errors import BadInput

PORTS_END = 0x10000  # an address below is a port

# With `-msg timestamp=on` (or the log backend) PID@SECONDS.MICROSECONDS: stands before the event.
_LINE = re.compile(
    rb"(?:\d+@\d+\.\d+:)?memory_region_ops_(read|write) cpu (-?\d+) mr (0x[0-9a-f]+|\(nil\)) "
    rb"addr 0x([0-9a-f]{1,16}) value 0x([0-9a-f]{1,16}) size ([1248])(?: name '([^']*)')?"
)
EXPECTED = "memory_region_ops_read|write cpu N mr 0x… addr 0x… value 0x… size 1|2|4|8 name '…'"


@dataclass(frozen=True)
class Trace:
    """A recorded run of a guest.

    `ops`: its accesses as `hv.abi.OP`, in order; the value of a read is what the guest got.
    `names`: names of regions; `region`: per access the index into them. `lines`: per access the
    line of the file, from 1.
    """

    path: Path
    ops: NDArray[np.void]
    names: list[str]
    region: NDArray[np.intp]
    lines: NDArray[np.int64]

    @property
    def reads(self) -> NDArray[np.bool_]:
        """Per access: is it a load or an in?"""
        kinds = self.ops["kind"]
        return np.asarray((kinds == OP_LOAD) | (kinds == OP_IN))


def read(path: Path) -> Trace:
    """Read a trace, plain or gzip.

    Raises BadInput when there is no such file, it is damaged (naming the line and what was
    expected there), or holds no access.
    """
    rows: list[tuple[int, int, int, int]] = []
    region: list[int] = []
    lines: list[int] = []
    names: dict[bytes, int] = {}
    for number, line in enumerate(_content(path).split(b"\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.rstrip(b"\r"))
            if match is None:
                raise BadInput(f"{path}: line {number}: expected {EXPECTED}, got {_shown(line)}")
        kind, _cpu, _mr, addr, value, size, name = match.groups()
        rows.append(_op(path, number, kind == b"read", int(addr, 16), int(size), int(value, 16)))
        region.append(names.setdefault(name or b"unnamed", len(names)))
        lines.append(number)
    if not rows:
        raise BadInput(f"{path}: expected at least one line {EXPECTED}, found none")
    return Trace(
        path,
        np.array(rows, dtype=OP),
        [name.decode(errors="replace") for name in names],
        np.array(region, dtype=np.intp),
        np.array(lines, dtype=np.int64),
    )


def _op(
    path: Path, line: int, is_read: bool, addr: int, size: int, value: int
) -> tuple[int, int, int, int]:
    if addr < PORTS_END:
        if size > 4 or addr + size > PORTS_END:
            raise BadInput(
                f"{path}: line {line}: expected a port access of 1, 2 or 4 bytes below "
                f"{PORTS_END:#x}, got {size} bytes at {addr:#x}"
            )
        kind = OP_IN if is_read else OP_OUT
    else:
        if addr + size > 1 << 64:
            raise BadInput(f"{path}: line {line}: expected an address that does not wrap")
        kind = OP_LOAD if is_read else OP_STORE
    # QEMU traces what the device returned before it cuts it to the access's width.
    return kind, size, addr, value & (1 << 8 * size) - 1


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"trace {path}: {error.strerror}") from error
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"trace {path}: expected a whole gzip file: {error}") from error


def _shown(line: bytes) -> str:
    text = line[:80].decode(errors="backslashreplace")
    return f"{text!r}{' …' if len(line) > 80 else ''}"
