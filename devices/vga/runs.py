"""Runs of writes to the window, done as arrays.

Between two register accesses the graphics controller is a fixed function: a written byte becomes
the same four plane bytes wherever it lands. A plan holds that function as a table of 256 words, so
that a run costs a few array operations, or one loop in C, however long it is.

Where an address occurs twice the last write wins, which is numpy's rule for assignments too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.vga import planes
from coalesced.devices.vga.layout import ALL_PLANES, BANKED_MAP, PLANES, REPEAT, WINDOW_MAPS
from coalesced.devices.vga.registers import (
    GR5_ODD_EVEN,
    GR_BIT_MASK,
    GR_DATA_ROTATE,
    GR_ENABLE_SET_RESET,
    GR_MISC,
    GR_MODE,
    GR_READ_MAP,
    GR_SET_RESET,
    SR4_CHAIN_4,
    SR_MAP_MASK,
    SR_MEMORY_MODE,
)

if TYPE_CHECKING:
    from coalesced.devices.bus.write_run import U64, WriteRun
    from coalesced.devices.vga.registers import Registers

U8 = NDArray[np.uint8]
Words = NDArray[np.uint32]
Index = NDArray[np.intp]
Data = NDArray[np.integer[Any]]
Store = Callable[[Index, Data], None]

_NOTHING_WIDE: Final[Mapping[int, Store]] = {}

_ROTATED: Final = tuple(
    np.array(
        [((byte >> count | byte << (8 - count)) & 0xFF) * REPEAT for byte in range(256)], np.uint32
    )
    for count in range(8)
)
"""By rotate count: each byte, rotated right, in every plane."""
_NIBBLE_PLANES: Final[Words] = np.array(PLANES * 16, np.uint32)
"""By byte: its low four bits spread over the planes."""
_POSITIONS: Final = np.arange(8, dtype=np.uint64)


class Plan:
    """The effect of writes under the present registers: (offset - first) below `limit` are stored.

    `wide` has the sizes above 1 that memory takes in one piece if they are aligned, as where
    addresses are linear: a text console writes words, a blit to mode 13h double words.
    """

    __slots__ = ("first", "limit", "store", "wide")

    def __init__(
        self, first: int, limit: int, store: Store, wide: Mapping[int, Store] = _NOTHING_WIDE
    ) -> None:
        self.first = np.uint64(first)
        self.limit = limit
        self.store = store
        self.wide = wide

    def write(self, run: WriteRun) -> None:
        """Store writes in program order."""
        store = self.store
        size = run.size
        if size == 1 and not self.first:
            # Bytes are indices as they are. What is none, or outside: numpy looks at each index
            # before it stores anything.
            try:
                store(run.indices, run.data)
                return
            except IndexError:
                pass
        offsets = run.addresses
        data: Data
        if size == 1:
            data = run.values.astype(np.uint8)
        elif size in self.wide and not (offsets & np.uint64(size - 1)).any():
            store = self.wide[size]
            data = run.values
        else:
            offsets, data = _split_bytes(run)
        if self.first:
            offsets = offsets - self.first  # wraps below the map, and so ends above the limit
        if offsets.max() >= self.limit:
            inside = offsets < self.limit
            offsets = offsets[inside]
            data = data[inside]
        store(offsets.view(np.intp), data)


class PlanarPlan:
    """The effect of planar writes under the present registers, from the map's `first` offset on.

    Of the word that the table has for a byte, the bits of the mask `written` are stored.
    """

    __slots__ = ("_first", "_table", "_words", "_written")

    def __init__(self, first: int, words: Words, table: Words, written: int) -> None:
        self._first = first
        self._words = words
        self._table = table
        self._written = written

    def write(self, run: WriteRun) -> None:
        """Store writes in program order."""
        offsets: U64 | Index = run.indices
        data: Data = run.data
        if run.size != 1:
            offsets, data = _split_bytes(run)
        planes.store(self._words, self._table, self._written, self._first, offsets, data)


def _split_bytes(run: WriteRun) -> tuple[U64, U8]:
    """Split each write into its bytes, in ascending order."""
    offsets, sizes, values = run.addresses, run.sizes, run.values
    size = run.size or int(sizes.max())
    byte_offsets = np.empty((len(offsets), size), np.uint64)
    for position in range(size):
        np.add(offsets, np.uint64(position), out=byte_offsets[:, position])
    little_endian = np.ascontiguousarray(values, dtype="<u8").view(np.uint8)
    data = little_endian.reshape(-1, 8)[:, :size]
    if run.size:
        return byte_offsets.ravel(), data.ravel()
    used = _POSITIONS[:size] < sizes[:, np.newaxis]
    return byte_offsets[used], data[used]


def make_plan(r: Registers, sr: bytearray, vram: U8, bank_offset: int) -> Plan | PlanarPlan:
    """Work out what writes do under the present registers.

    `sr` is the sequencer in effect; `bank_offset`, a multiple of 64 KiB, moves the 64 KiB map.
    """
    window_map = (r.gr[GR_MISC] >> 2) & 3
    first, size = WINDOW_MAPS[window_map]
    bank = bank_offset if window_map == BANKED_MAP else 0
    map_mask = sr[SR_MAP_MASK] & 0x0F
    if sr[SR_MEMORY_MODE] & SR4_CHAIN_4:
        return _plan_chain_4(first, vram[bank : bank + size], map_mask)
    if r.gr[GR_MODE] & GR5_ODD_EVEN:
        return _plan_odd_even(
            first, vram[2 * bank : 2 * (bank + size)], map_mask, r.gr[GR_READ_MAP] & 2
        )
    words = vram.view(np.uint32)[bank : bank + size]
    return PlanarPlan(first, words, planar_table(r), PLANES[map_mask])


def linear_plan(vram: U8) -> Plan:
    """Take offsets as addresses of bytes, as a linear framebuffer does."""
    return _plan_chain_4(0, vram, 0x0F)


def _plan_chain_4(first: int, target: U8, map_mask: int) -> Plan:
    """Address bits 1-0 choose the plane, which the map mask may close."""
    if map_mask == 0x0F:
        wide = {
            2: _store_wide(target.view(np.uint16), 1),
            4: _store_wide(target.view(np.uint32), 2),
            8: _store_wide(target.view(np.uint64), 3),
        }
        return Plan(first, len(target), target.__setitem__, wide)
    plane_open = np.array([map_mask >> plane & 1 for plane in range(4)], np.bool_)

    def store_open(index: Index, data: Data) -> None:
        kept = plane_open[index & 3]
        target[index[kept]] = data[kept]

    return Plan(first, len(target), store_open)


def _plan_odd_even(first: int, target: U8, map_mask: int, plane: int) -> Plan:
    """Address bit 0 chooses one plane of the pair `plane`, `plane` + 1."""
    limit = len(target) // 2

    def store(index: Index, data: Data) -> None:
        odd = index & 1
        target[((index - odd) << 1) + (odd + plane)] = data

    def store_one(index: Index, data: Data) -> None:
        kept = (index & 1) == plane_pair >> 1
        store(index[kept], data[kept])

    plane_pair = map_mask >> plane & 3
    if plane_pair == 3:
        pairs = target.view(np.uint16)[plane >> 1 :: 2]
        return Plan(first, limit, store, {2: _store_wide(pairs, 1)})
    return Plan(first, limit, store_one if plane_pair else _store_nothing)


def _store_wide(target: Data, shift: int) -> Store:
    """Store elements of 1 << shift bytes at byte addresses."""

    def store(index: Index, data: Data) -> None:
        target[index >> shift] = data

    return store


def _store_nothing(index: Index, data: Data) -> None:
    """Lose the writes: the map mask is closed."""


def planar_table(r: Registers) -> Words:
    """`planar_value` of all 256 bytes: rotation, set/reset, logic operation, bit mask."""
    gr = r.gr
    latch = np.uint32(r.latch)
    write_mode = gr[GR_MODE] & 3
    if write_mode == 1:
        return np.full(256, latch)
    bit_mask = np.uint32(gr[GR_BIT_MASK] * REPEAT)
    rotated = _ROTATED[gr[GR_DATA_ROTATE] & 7]
    set_reset = PLANES[gr[GR_SET_RESET] & 0x0F]
    bits: Words = np.full(256, bit_mask)
    if write_mode == 2:
        data = _NIBBLE_PLANES
    elif write_mode == 3:
        bits = rotated & bit_mask
        data = np.full(256, set_reset, np.uint32)
    else:
        fixed = PLANES[gr[GR_ENABLE_SET_RESET] & 0x0F]
        data = (rotated & np.uint32(fixed ^ ALL_PLANES)) | np.uint32(set_reset & fixed)
    operation = (gr[GR_DATA_ROTATE] >> 3) & 3
    if operation == 1:
        data = data & latch
    elif operation == 2:
        data = data | latch
    elif operation == 3:
        data = data ^ latch
    table: Words = ((data ^ latch) & bits) ^ latch
    return table
