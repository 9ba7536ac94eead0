"""Accesses as instructions make them, of 1, 2, 4 or 8 bytes, out of the parts that devices see.

An access that crosses a page reaches its devices in two parts, and that is how KVM and `--trace`
record it. A part of 3, 5, 6 or 7 bytes is joined to the other one, so that a replay makes the same
access. Where the other one is missing (it went to RAM) the part becomes several accesses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.traces.events import Positions


def instructions(parts: NDArray[np.void]) -> tuple[NDArray[np.void], Positions, int]:
    """The accesses (`hv.abi.OP`), the part from which each begins, and the number of joined parts.

    The two parts of an access lie one behind the other in `parts`.
    """
    if not _odd(parts).any():
        return parts, np.arange(len(parts)), 0
    ops, rows = _joined(parts)
    joined = len(parts) - len(ops)
    while (odd := _odd(ops)).any():
        again = np.repeat(np.arange(len(ops)), 1 + odd)
        second = np.append(False, again[1:] == again[:-1])
        cut = odd[again]
        ops, rows = ops[again], rows[again]
        low = np.where(ops["size"] > 4, 4, 2).astype(ops.dtype["size"])
        ops["address"][cut & second] += low[cut & second]
        ops["value"][cut & second] >>= 8 * low[cut & second].astype(np.uint64)
        ops["size"] = np.where(~cut, ops["size"], np.where(second, ops["size"] - low, low))
        ops["value"] &= _mask(ops["size"])
    return ops, rows, joined


def _odd(ops: NDArray[np.void]) -> NDArray[np.bool_]:
    return ~np.isin(ops["size"], (1, 2, 4, 8))


def _mask(size: NDArray[np.void]) -> NDArray[np.uint64]:
    return ~np.uint64(0) >> (np.uint64(64) - 8 * size.astype(np.uint64))


def _joined(parts: NDArray[np.void]) -> tuple[NDArray[np.void], Positions]:
    """The parts, those of one access joined, and the place of each among `parts`."""
    one, other, odd = parts[:-1], parts[1:], _odd(parts)
    edge = one["address"] + one["size"]
    joins = (
        (odd[:-1] | odd[1:])
        & np.isin(one["size"] + other["size"], (4, 8))
        & (one["kind"] == other["kind"])
        & (edge == other["address"])
        & (edge % np.uint64(PAGE_SIZE) == 0)
    )
    first = np.flatnonzero(joins)
    ops = parts.copy()
    shift = 8 * ops["size"][first].astype(np.uint64)
    ops["value"][first] |= ops["value"][first + 1] << shift
    ops["size"][first] += ops["size"][first + 1]
    kept = np.delete(np.arange(len(ops)), first + 1)
    return ops[kept], kept
