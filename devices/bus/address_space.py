"""Address spaces: which region answers an address."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from coalesced.devices.bus.region import Region
from coalesced.devices.bus.tally import Tally

MASKS = tuple((1 << 8 * size) - 1 for size in range(9))  # of a value, by size


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A region at an absolute address. The higher priority hides the lower, the later the earlier.

    Source: QEMU's memory API ("Overlapping regions and priority"); among equals QEMU lets the
    region that was mapped last answer.
    """

    region: Region
    base: int
    priority: int

    @property
    def end(self) -> int:
        """First address past the region."""
        return self.base + self.region.size

    def __str__(self) -> str:
        return f"{self.region.name} at {self.base:#x}..{self.end - 1:#x}"


@dataclass(frozen=True, slots=True)
class FlatRange:
    """A stretch [start, end) of addresses that one mapping answers, or none."""

    start: int
    end: int
    mapping: Mapping | None


class AddressSpace:
    """Memory or ports of a machine: absolute addresses 0 up to, not including, `limit`.

    Addresses that no region answers read as `unassigned` repeated in each byte and swallow
    writes; both are counted in `unassigned_accesses` by address, so that nothing goes unseen.
    """

    def __init__(self, name: str, limit: int, unassigned: int) -> None:
        """`unassigned`: the byte read where nothing answers, 0x00 for memory, 0xff for ports."""
        self.name = name
        self.limit = limit
        self.unassigned_accesses = Tally()
        self._unassigned_byte = unassigned
        self._mappings: list[Mapping] = []
        self._listeners: list[Callable[[], None]] = []
        self._before_change: list[Callable[[], None]] = []
        self._blocks = 0  # of `changing` that are under way
        self._changed = False  # within them
        self._flatten()

    # --- mapping ---

    def map(self, region: Region, base: int, priority: int = 0) -> Mapping:
        """Let `region` answer from `base` on.

        Raises ValueError when it does not fit below the limit.
        """
        mapping = self._placed(region, base, priority)
        with self.changing():
            self._mappings.append(mapping)
            self._changed = True
        return mapping

    def map_all(self, regions: Iterable[tuple[Region, int]]) -> list[Mapping]:
        """Let several regions answer, each from its base on, as one change of the mappings.

        Raises ValueError, and maps none, when one does not fit below the limit.
        """
        mappings = [self._placed(region, base, 0) for region, base in regions]
        with self.changing():
            self._mappings += mappings
            self._changed = True
        return mappings

    def _placed(self, region: Region, base: int, priority: int) -> Mapping:
        if base < 0 or base + region.size > self.limit:
            raise ValueError(
                f"{self.name}: region {region.name!r} at {base:#x}+{region.size:#x} "
                f"does not fit below {self.limit:#x}"
            )
        return Mapping(region, base, priority)

    def unmap(self, mapping: Mapping) -> None:
        """Take a mapping away; raises ValueError when it is not there."""
        if mapping not in self._mappings:
            raise ValueError(f"{self.name}: {mapping} is not mapped")
        with self.changing():
            self._mappings.remove(mapping)
            self._changed = True

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make all changes of the mappings within the block one, which counts from its end on.

        The guest does not run within it. Until its end each address has the region that it had
        before it. Of blocks within each other the outermost counts.
        Source: QEMU's memory_region_transaction_begin().
        """
        if not self._blocks:
            # Not within the block: a queued write may change the mappings that the next one finds.
            for before in self._before_change:
                before()
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1
            if self._changed and not self._blocks:
                self._changed = False
                self._flatten()
                for listener in self._listeners:
                    listener()

    def on_change(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """Call `before()` before each change of the mappings and `after()` after it."""
        self._before_change.append(before)
        self._listeners.append(after)

    def flat(self) -> Iterator[FlatRange]:
        """The ranges of the whole space in ascending order, gaps included (mapping None)."""
        return iter(self._flat)

    def _flatten(self) -> None:
        mappings = self._mappings
        edges = sorted({0, self.limit, *(m.base for m in mappings), *(m.end for m in mappings)})
        # Later among equal priorities wins.
        ranks = [(-mapping.priority, -at, mapping) for at, mapping in enumerate(mappings)]
        ranks.sort(key=lambda rank: rank[2].base, reverse=True)
        begun: list[tuple[int, int, Mapping]] = []  # a heap; the first that has not ended answers
        flat: list[FlatRange] = []
        for start, end in pairwise(edges):
            while ranks and ranks[-1][2].base == start:
                heappush(begun, ranks.pop())
            while begun and begun[0][2].end <= start:
                heappop(begun)
            owner = begun[0][2] if begun else None
            joined = flat.pop().start if flat and flat[-1].mapping is owner else start
            flat.append(FlatRange(joined, end, owner))
        self._flat = flat
        self._starts = [r.start for r in flat]

    # --- single accesses ---

    def find(self, address: int) -> FlatRange:
        """The range that `address` lies in; it must be below the limit."""
        return self._flat[bisect_right(self._starts, address) - 1]

    def region_at(self, address: int) -> Region | None:
        """The region that answers `address`, or None."""
        if not 0 <= address < self.limit:
            return None
        mapping = self.find(address).mapping
        return None if mapping is None else mapping.region

    def read(self, address: int, size: int) -> int:
        """Read `size` bytes (1 to 8) at `address`, little endian."""
        # Past the limit this is the last range, whose end is the limit.
        found = self._flat[bisect_right(self._starts, address) - 1]
        if address + size <= found.end:
            mapping = found.mapping
            if mapping is not None:
                read = mapping.region.read  # called as a name, which costs the interpreter less
                value = read(address - mapping.base, size)
                if type(value) is not int:
                    value = whole_number("read()", value)
                return value & MASKS[size]
            return self._read_unassigned(address, size)
        value = 0
        for piece, shift, length in self._pieces(address, size):
            value |= (
                self.read(piece, length)
                if piece < self.limit
                else self._read_unassigned(piece, length)
            ) << shift
        return value

    def write(self, address: int, size: int, value: int) -> None:
        """Write `value`, which fits in `size` bytes (1 to 8), at `address`, little endian."""
        found = self._flat[bisect_right(self._starts, address) - 1]
        if address + size <= found.end:
            mapping = found.mapping
            if mapping is not None:
                write = mapping.region.write
                write(address - mapping.base, size, value)
            else:
                self.unassigned_accesses[address] += 1
            return
        for piece, shift, length in self._pieces(address, size):
            part = (value >> shift) & ((1 << (8 * length)) - 1)
            if piece < self.limit:
                self.write(piece, length, part)
            else:
                self.unassigned_accesses[piece] += 1

    def _read_unassigned(self, address: int, size: int) -> int:
        self.unassigned_accesses[address] += 1
        return int.from_bytes(bytes([self._unassigned_byte]) * size, "little")

    def _pieces(self, address: int, size: int) -> list[tuple[int, int, int]]:
        """(address, bit shift, size) of the parts of an access that crosses an edge."""
        pieces = []
        end = address + size
        at = address
        while at < end:
            stop = end if at >= self.limit else min(end, self.find(at).end)
            pieces.append((at, 8 * (at - address), stop - at))
            at = stop
        return pieces


def whole_number(what: str, value: object) -> int:
    """A whole number of another type than int, as numpy has them; raises TypeError for the rest."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        import numpy as np  # noqa: PLC0415 - start-up time

        if isinstance(value, np.bool_):  # bool is an int, numpy's is none
            return int(value)
        raise TypeError(f"{what} gave {type(value).__name__}, expected an int") from error
