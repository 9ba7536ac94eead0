"""The streams that a stressed guest writes, one a vCPU: every entry follows from its number.

Both sides, and the accounting after a kill, compute it from the same seed. An entry's address
carries the low bits of its number, its data a check value, so that lost, repeated, reordered and
torn entries are recognised at any size from 1 to 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from coalesced.tools.chance import generator

PERIOD: Final = 1 << 13  # entries, after which addresses and sizes repeat
_LAPS: Final = 64  # periods, after which the addresses in memory repeat
_ALL: Final = np.uint64((1 << 64) - 1)

# An entry lies in the page of its number, so that the page gives the number, modulo MEMORY_MODULUS.
MEMORY_MODULUS: Final = PERIOD * _LAPS
QUEUE: Final = 1 << 40  # coalesced
DIRECT: Final = 1 << 41  # not coalesced: each write exits
PROBE: Final = 1 << 42  # each load exits, in the page of the number that comes next
BELL: Final = (
    1 << 43
)  # coalesced or posted; a write raises the interrupt, in the page of the next number
WINDOW: Final = MEMORY_MODULUS * PAGE_SIZE  # bytes of each of these
QUEUE_PORTS: Final = 0x2000  # coalesced; a port a number, modulo PERIOD
PORTS: Final = PERIOD + 4
PROBE_PORT: Final = 0xA800  # each in exits, at a port a number, modulo PROBE_PORTS
PROBE_PORTS: Final = 0x1000
VCPUS: Final = 4  # have room for their ports
_PORTS_EACH: Final = {QUEUE_PORTS: PORTS, PROBE_PORT: PROBE_PORTS + 4}


def own(first: int, vcpu: int) -> int:
    """The start of an area of a vCPU, such as its QUEUE; `first`: that of vCPU 0."""
    return first + vcpu * _PORTS_EACH.get(first, WINDOW)


def vcpu_of(pio: bool, address: int) -> int:
    """The vCPU whose QUEUE, DIRECT or QUEUE_PORTS an address lies in."""
    return (address - QUEUE_PORTS) // PORTS if pio else address % QUEUE // WINDOW


class Style(StrEnum):
    """The kinds of operations in a stream."""

    runs = "runs"  # long runs of stores to memory, some outs, few exits
    mixed = "mixed"  # memory and ports in turns, some exits
    exits = "exits"  # loads, ins and writes that exit, all the time


class _Shares(NamedTuple):
    """Of the entries: what they are outside runs; and the runs."""

    cross: float  # first part of an access that crosses a page
    out: float
    direct: float  # a write that exits
    loads: float  # exit ahead of it
    ins: float
    in_runs: float  # share of stretches that are one kind throughout, stores or outs
    stretch: int  # mean entries of a stretch


_SHARES: Final = {
    Style.runs: _Shares(0.3, 0.02, 0.002, 0.0002, 0.0001, 0.96, 100),
    Style.mixed: _Shares(0.10, 0.40, 0.010, 0.005, 0.005, 0.2, 128),
    Style.exits: _Shares(0.05, 0.20, 0.100, 0.050, 0.050, 0.0, 128),
}


@dataclass(frozen=True)
class Lap:
    """The entries of one period, as the devices must see them, one array element each."""

    address: NDArray[np.uint64]
    length: NDArray[np.uint32]
    pio: NDArray[np.bool_]
    data: NDArray[np.uint64]

    def entries(self) -> list[tuple[bool, int, int, int]]:
        """(pio, address, length, data) of each, for comparisons one by one."""
        columns = (self.pio, self.address, self.length, self.data)
        return list(zip(*(column.tolist() for column in columns), strict=True))


class Stream:
    """The entries of a seed, a style and a vCPU, and the operations that write them."""

    def __init__(self, seed: int, style: Style, vcpu: int = 0) -> None:
        self.vcpu = vcpu
        random = generator((seed, list(Style).index(style), vcpu))
        kinds = _kinds(random, style)
        numbers = np.arange(PERIOD, dtype=np.uint64)
        self._pio = kinds == "out"
        self._first = kinds == "cross"  # of an access that crosses a page
        second = np.roll(self._first, 1)
        cut = random.integers(1, 8, PERIOD).astype(np.uint32)  # bytes before the page's end
        sizes = random.choice([1, 2, 4, 8], PERIOD).astype(np.uint32)
        sizes[self._pio] = np.minimum(sizes[self._pio], 4)
        # Of 8 bytes, so that both parts have any size from 1 to 7.
        sizes[self._first] = cut[self._first]
        sizes[second] = 8 - np.roll(cut, 1)[second]
        offset = random.integers(0, PAGE_SIZE, PERIOD).astype(np.uint64)
        offset = np.minimum(offset, PAGE_SIZE - sizes.astype(np.uint64))
        offset[self._first] = PAGE_SIZE - cut[self._first].astype(np.uint64)
        offset[second] = 0
        base = np.where(kinds == "direct", own(DIRECT, vcpu), own(QUEUE, vcpu)).astype(np.uint64)
        in_memory = base + numbers * PAGE_SIZE + offset
        ports = own(QUEUE_PORTS, vcpu) + numbers
        self._address = np.where(self._pio, ports, in_memory).astype(np.uint64)
        self._length = sizes
        self._mask = _ALL >> (np.uint64(64) - np.uint64(8) * sizes.astype(np.uint64))
        self._data = random.integers(0, 1 << 64, PERIOD, dtype=np.uint64)
        self._seed = np.uint64(seed & 0xFFFF_FFFF)
        self._second = second
        self._make_operations(random, style)
        self._lap_made: tuple[int, Lap] | None = None
        self._operations_made = -1  # of this lap

    def lap(self, number: int) -> Lap:
        """The entries number * PERIOD up to, not including, (number + 1) * PERIOD."""
        if self._lap_made is None or self._lap_made[0] != number:
            moved = self._moved(number)
            address = np.where(self._pio, self._address, self._address + moved)
            data = (self._data ^ self._mix(number)) & self._mask
            self._lap_made = number, Lap(address, self._length, self._pio, data)
        return self._lap_made[1]

    def _moved(self, lap: int) -> np.uint64:
        return np.uint64(lap % _LAPS * PERIOD * PAGE_SIZE)

    def _mix(self, lap: int) -> np.uint64:
        """Changes with the lap in every byte."""
        x = int(self._seed) + lap * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1
        x = (x ^ x >> 30) * 0xBF58_476D_1CE4_E5B9 & (1 << 64) - 1
        x = (x ^ x >> 27) * 0x94D0_49BB_1331_11EB & (1 << 64) - 1
        return np.uint64(x ^ x >> 31)

    # --- the guest's operations ---

    def _make_operations(self, random: np.random.Generator, style: Style) -> None:
        """One operation an entry, but for those that cross a page, and loads between them."""
        loads, ins = _SHARES[style].loads, _SHARES[style].ins
        chance = random.random(PERIOD)
        chance[self._second] = 1.0  # within an access nothing else can happen
        probed = np.flatnonzero(chance < loads + ins)
        writes = np.flatnonzero(~self._second)
        # (entry, what): a probe goes before the write of its entry.
        order = np.concatenate([probed * 2, writes * 2 + 1])
        order.sort()
        self.entry = order // 2  # of each operation: how many entries of the lap go before it
        is_write = order % 2 == 1
        is_in = ~is_write & (chance[self.entry] >= loads)
        is_load = ~is_write & ~is_in
        ops = np.zeros(len(order), OP)
        ops["kind"] = np.select(
            [is_load, is_in, self._pio[self.entry]], [OP_LOAD, OP_IN, OP_OUT], OP_STORE
        )
        sizes = np.where(self._first[self.entry], 8, self._length[self.entry])
        probe_sizes = random.choice([1, 2, 4], len(order))
        ops["size"] = np.where(is_write, sizes, probe_sizes)
        ops["address"] = np.select(
            [is_write, is_load],
            [
                self._address[self.entry],
                own(PROBE, self.vcpu) + self.entry.astype(np.uint64) * PAGE_SIZE,
            ],
            np.uint64(own(PROBE_PORT, self.vcpu)) + self.entry.astype(np.uint64) % PROBE_PORTS,
        )
        self._ops = ops
        self._words = ops.view(np.uint64).reshape(-1, 3)  # kind and size, address, value
        self._base = ops["address"].copy()
        self._moves = np.isin(ops["kind"], [OP_STORE, OP_LOAD]).astype(np.uint64)
        self.probes = np.flatnonzero(~is_write)
        crossing = np.flatnonzero(is_write & self._first[self.entry])
        self._crossing = crossing, 8 * self._length[self.entry[crossing]].astype(np.uint64)

    def operations(self, lap: int) -> NDArray[np.void]:
        """The operations of a lap, fit for `Vcpu.execute`; those of `probes` read.

        The same array each time: a call for another lap overwrites it.
        """
        if lap == self._operations_made:
            return self._ops
        self._operations_made = lap
        entries = self.lap(lap)
        value = entries.data[self.entry]
        crossing, shift = self._crossing
        value[crossing] |= entries.data[self.entry[crossing] + 1] << shift
        self._words[:, 1] = self._base + self._moves * self._moved(lap)
        self._words[:, 2] = value
        return self._ops

    def answers(self, lap: int) -> NDArray[np.uint64]:
        """The value that each of the lap's `probes` must read."""
        entries = self.entry[self.probes].astype(np.uint64)
        value = probe_value(np.uint64(lap * PERIOD & (1 << 64) - 1) + entries)
        size = self._ops["size"][self.probes].astype(np.uint64)
        return value & (_ALL >> (np.uint64(64) - np.uint64(8) * size))


def probe_value(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The value of a load after `number` entries; every byte of it changes with each entry."""
    return number * np.uint64(0x9E37_79B9_7F4A_7C15) ^ number >> np.uint64(7)


def probe_value_of(number: int) -> int:
    """`probe_value` of one number."""
    return number * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1 ^ number >> 7


@lru_cache(maxsize=2 * len(Style) * VCPUS)
def stream(seed: int, style: Style, vcpu: int) -> Stream:
    """The stream, made once: processes that are forked later have it."""
    return Stream(seed, style, vcpu)


def _kinds(random: np.random.Generator, style: Style) -> NDArray[np.str_]:
    """Of each entry: 'store', 'cross' (the next one is its other part), 'out' or 'direct'."""
    shares = _SHARES[style]
    cross, out, direct = shares.cross, shares.out, shares.direct
    names = np.array(["cross", "out", "direct", "store", "rest"])
    kinds = random.choice(names[:4], PERIOD, p=[cross, out, direct, 1 - cross - out - direct])
    at = 0
    while at < PERIOD:  # stretches: runs of one kind, and what was drawn above
        length = int(random.geometric(1 / shares.stretch))
        if random.random() < shares.in_runs:
            kinds[at : at + length] = "out" if random.random() < out else "store"
        at += length
    # The second part of a crossing access follows its first; the last has none.
    kinds[-1] = "store"
    for i in np.flatnonzero(kinds == "cross").tolist():
        if kinds[i] == "cross":
            kinds[i + 1] = "rest"
    return kinds
