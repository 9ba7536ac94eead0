"""Address spaces: which region answers an address, for single accesses and for batches."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from coalesced.devices.bus.region import Region, RunHandler
from coalesced.devices.bus.tally import Tally
from coalesced.devices.bus.write_run import WriteRun

# Below this many writes the fixed cost of array operations exceeds that of single calls.
SHORTEST_RUN = 8
# Single writes between two calls of the observer of long batches.
SINGLE_WRITES = 4

MASKS = tuple((1 << 8 * size) - 1 for size in range(9))  # of a value, by size

WriteFailed = Callable[[int, int, int, BaseException], None]


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
        self.generation = 0  # changes with every change of the mappings
        self.unassigned_accesses = Tally()
        self._unassigned_byte = unassigned
        self._mappings: list[Mapping] = []
        self._listeners: list[Callable[[], None]] = []
        self._before_change: list[Callable[[], None]] = []
        self._blocks = 0  # of `changing` that are under way
        self._changed = False  # within them
        self.between_runs: Callable[[], None] = lambda: None
        """Called during a long batch, so that the machine can do other work meanwhile."""
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
        self._starts_u64 = np.array(self._starts, dtype=np.uint64)
        # The last byte, not the end: the end of a 64-bit space does not fit in 64 bits.
        self._lasts_u64 = np.array([r.end - 1 for r in flat], dtype=np.uint64)
        self.generation += 1

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
                    value = _number("read()", value)
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

    # --- batches ---

    def write_batch(self, run: WriteRun, failed: WriteFailed) -> None:
        """Carry out writes in order, as arrays where a region takes runs.

        Each write lies below 2**64. One whose handler raises is consumed and reported to
        `failed(address, size, value, exception)`; the rest of the batch continues.
        """
        done = self._write_whole(run, failed)
        count = len(run.addresses)
        while done < count:
            if count - done < SHORTEST_RUN:
                done += self._write_singly(run.entries(done), failed)
            else:
                done += self._write_ranges(run.part(done) if done else run, failed)

    def _write_whole(self, run: WriteRun, failed: WriteFailed) -> int:
        """Offer a run to the region that it lies in, if one takes it; how many writes it took."""
        low, last = run.span
        found = self._flat[bisect_right(self._starts, low) - 1]
        mapping = found.mapping
        if mapping is None or last >= found.end or len(run.addresses) < SHORTEST_RUN:
            return 0
        take = mapping.region.take_run
        return self._offer(run, mapping, take, failed) if take else 0

    def _write_ranges(self, run: WriteRun, failed: WriteFailed) -> int:
        """Carry out writes until all are done or the mappings change; how many were."""
        generation = self.generation
        for start, stop, mapping in self._split(run):
            at = start
            while at < stop:
                take = mapping and mapping.region.take_run
                if mapping is not None and take and stop - at >= SHORTEST_RUN:
                    at += self._offer(run.part(at, stop), mapping, take, failed)
                else:
                    at += self._write_singly(run.entries(at, stop), failed)
                self.between_runs()
                if self.generation != generation:
                    return at
        return len(run)

    def _split(self, run: WriteRun) -> list[tuple[int, int, Mapping | None]]:
        """(start, stop, mapping) of runs that lie wholly inside one range.

        None: writes to be carried out singly, short runs in a row among them.
        """
        addresses, sizes = run.addresses, run.sizes
        low, last = run.span
        first = self.find(min(low, self.limit - 1))
        if last < first.end:
            return [(0, len(addresses), first.mapping)]
        ranges = np.searchsorted(self._starts_u64, addresses, side="right") - 1
        last_bytes = addresses + (sizes - np.uint32(1))
        # Below its first byte: it wrapped past the top of a 64-bit space.
        crossing = (last_bytes > self._lasts_u64[ranges]) | (last_bytes < addresses)
        keys = np.where(crossing, -1, ranges)
        edges = (np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist()
        parts: list[tuple[int, int, Mapping | None]] = []
        for start, stop in pairwise([0, *edges, len(addresses)]):
            singly = stop - start < SHORTEST_RUN or keys[start] < 0
            mapping = None if singly else self._flat[keys[start]].mapping
            joined = mapping is None and parts and parts[-1][2] is None
            parts.append((parts.pop()[0] if joined else start, stop, mapping))
        return parts

    def _offer(self, run: WriteRun, mapping: Mapping, take: RunHandler, failed: WriteFailed) -> int:
        """Let a region take writes of `run`, one at least; how many are done."""
        try:
            taken = take(run.rebased(mapping.base))
            if type(taken) is not int:
                taken = _number("write_run()", taken)
            if not 0 <= taken <= len(run.addresses):
                raise ValueError(f"write_run() gave {taken}, expected a count of 0 to {len(run)}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failed(*run.entries(0, 1)[0], error)
            return 1
        return taken or self._write_singly(run.entries(0, 1), failed)

    def _write_singly(self, writes: list[tuple[int, int, int]], failed: WriteFailed) -> int:
        """Carry out writes until all are done or the mappings change; how many were."""
        generation = self.generation
        for done, (address, size, value) in enumerate(writes, 1):
            try:
                self.write(address, size, value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failed(address, size, value, error)
            if self.generation != generation:
                return done
            if not done % SINGLE_WRITES:
                self.between_runs()
        return len(writes)


def _number(what: str, value: object) -> int:
    """A whole number of another type than int, as numpy has them; raises TypeError for the rest."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{what} gave {type(value).__name__}, expected an int") from error
