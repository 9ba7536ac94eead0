"""Repetitions in a list of bus operations: runs of stores, and loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_STORE

FEWEST_FOR_RUN = 16  # consecutive stores; a single store costs as much as a few of a run
FEWEST_FOR_LOOP = 32  # items of a loop's body, so that counting hardly costs
LONGEST_PERIOD = 64  # items that may repeat as one

# (kind, size, address, value or, of a run of stores, the bytes that they leave)
Item = tuple[int, int, int, int | bytes]


def items_of(ops: NDArray[np.void]) -> list[Item]:
    """Each operation, but long runs of consecutive stores as one item."""
    kinds, sizes, addresses = ops["kind"], ops["size"], ops["address"]
    follows = (
        (kinds[1:] == OP_STORE)
        & (kinds[:-1] == OP_STORE)
        & (sizes[1:] == sizes[:-1])
        & (sizes[1:] < 8)
        & (addresses[1:] == addresses[:-1] + sizes[:-1])
    )
    edges = np.flatnonzero(~follows) + 1
    starts, stops = np.append(0, edges), np.append(edges, len(ops))
    long = stops - starts >= FEWEST_FOR_RUN
    items: list[Item] = []
    done = 0
    for start, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True):
        items += _singles(ops[done:start])
        size = int(sizes[start])
        octets = np.ascontiguousarray(ops["value"][start:stop]).view(np.uint8).reshape(-1, 8)
        items.append((OP_STORE, size, int(addresses[start]), octets[:, :size].tobytes()))
        done = stop
    return items + _singles(ops[done:])


def _singles(ops: NDArray[np.void]) -> list[Item]:
    values = ops["value"] & (np.uint64(2**64 - 1) >> (64 - 8 * ops["size"].astype(np.uint64)))
    values[(ops["kind"] == OP_LOAD) | (ops["kind"] == OP_IN)] = 0  # loads repeat whatever they give
    columns = (ops["kind"], ops["size"], ops["address"], values)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def loops(items: list[Item]) -> list[tuple[int, int, int]]:
    """(start, items of the body, times) of what repeats, ascending; a body is long enough."""
    numbers: dict[Item, int] = {}
    ids = np.array([numbers.setdefault(item, len(numbers)) for item in items], dtype=np.int64)
    if len(numbers) == len(items):
        return []
    found: list[tuple[int, int, int, int]] = []  # first by what it saves
    for period in range(1, min(LONGEST_PERIOD, len(items) // 2) + 1):
        same = np.concatenate([[False], ids[period:] == ids[:-period], [False]])
        starts, stops = np.flatnonzero(np.diff(same)).reshape(-1, 2).T.tolist()
        for start, stop in zip(starts, stops, strict=True):
            body = -(-FEWEST_FOR_LOOP // period) * period
            times = (stop - start + period) // body
            if times > 1:
                found.append((body * (times - 1), start, body, times))
    taken = np.zeros(len(items), dtype=bool)
    chosen: list[tuple[int, int, int]] = []
    for _, start, body, times in sorted(found, key=lambda f: (-f[0], f[2], f[1])):
        place = slice(start, start + body * times)
        if not taken[place].any():
            taken[place] = True
            chosen.append((start, body, times))
    return sorted(chosen)
