"""The CPU's view of video memory: the window at 0xa0000 in front of four planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.vga.layout import ALL_PLANES, BANKED_MAP, PLANES, REPEAT, WINDOW_MAPS
from coalesced.devices.vga.registers import (
    GR5_ODD_EVEN,
    GR5_READ_MODE_1,
    GR_BIT_MASK,
    GR_COLOR_COMPARE,
    GR_COLOR_DONT_CARE,
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
from coalesced.devices.vga.runs import make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.bus.write_run import WriteRun
    from coalesced.devices.vga.registers import Registers

OUTSIDE: Final = 0xFF

SHORT_RUN: Final = 8
"""Up to this length a run costs less write by write than as arrays."""

SHORT_RUN_WITHOUT_PLAN: Final = 24
"""The same when the registers changed since the last run, and arrays need a new plan first."""


class PlanarMemory:
    """Video memory behind the graphics controller.

    `vram` is one array of bytes in QEMU's layout: byte p of 32-bit word a is plane p at address a.
    Chain-4 addresses are then plain byte addresses, and an odd/even pair of addresses shares one
    word, so that character i and its attribute lie in word i. (IBM's chip leaves gaps instead:
    chain 4 uses every fourth address of a plane, odd/even every second.)

    `sr` is the sequencer in effect. A chip with a linear mode may put another array there, and
    a multiple of 64 KiB into `bank_offset`, each time followed by `registers.generation += 1`.
    """

    def __init__(self, registers: Registers, vram: NDArray[np.uint8]) -> None:
        self.vram = vram
        self.words: NDArray[np.uint32] = vram.view(np.uint32)
        self.sr = registers.sr
        self.bank_offset = 0
        self._r = registers
        # Reading one element costs a quarter through a memoryview of what it does through numpy.
        self._bytes = vram.data
        self._dwords = self.words.data
        self._plan = make_plan(registers, self.sr, vram, 0)
        self._plan_generation = registers.generation
        self._converted: dict[int, int] = {}
        self._window: tuple[int, ...] = ()
        self._generation = self._write_generation = -1
        self._look_for_writes()

    @property
    def is_plain(self) -> bool:
        """Whether the window is plain memory: chain 4 and all planes. QEMU maps it as RAM then."""
        return bool(self.sr[SR_MEMORY_MODE] & SR4_CHAIN_4) and self.sr[SR_MAP_MASK] & 15 == 15

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes of the window, lowest first; each may load the latches."""
        if size != 1:
            value = 0
            for position in range(size):
                value |= self.read(offset + position, 1) << (8 * position)
            return value
        r = self._r
        if self._generation != r.generation:
            self._look()
        if not self._first <= offset < self._end:
            return OUTSIDE
        address = offset - self._origin
        if not self._planar:
            return self._bytes[address if self._chain_4 else self._paired(address)]
        # Only this kind of read loads the latches; in the two above QEMU leaves them alone.
        latch = self._dwords[address]
        if latch != r.latch:
            r.latch = latch
            r.generation += 1
            self._generation = r.generation  # a load depends on no latch
        if self._compares:
            return self._matching(latch)
        return (latch >> self._read_shift) & 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes to the window, lowest first; lost where GR6 maps nothing."""
        if size != 1:
            for position in range(size):
                self.write(offset + position, 1, (value >> (8 * position)) & 0xFF)
            return
        r = self._r
        if self._write_generation != r.generation:
            self._look_for_writes()
        if not self._first <= offset < self._end:
            return
        address = offset - self._origin
        if not self._planar:
            at = address if self._chain_4 else self._paired(address)
            if self._open >> (8 * (at & 3)) & 1:
                self._bytes[at] = value & 0xFF
            return
        value &= 0xFF
        new = self._converted.get(value)
        if new is None:
            new = self._converted[value] = planar_value(r, value)
        if self._open != ALL_PLANES:
            old = self._dwords[address]
            new = ((new ^ old) & self._open) ^ old
        self._dwords[address] = new

    def take_run(self, run: WriteRun) -> int:
        """Do the work of as many calls of `write` at once; takes every entry.

        No register and no latch changes during a run, so what a byte does to memory is a function
        of its address and value alone, and is kept as a plan until a register or latch changes.
        """
        count = len(run.addresses)
        r = self._r
        fresh = self._plan_generation == r.generation
        if count <= (SHORT_RUN if fresh else SHORT_RUN_WITHOUT_PLAN):
            for write in run.entries():
                self.write(*write)
            return count
        if not fresh:
            self._plan = make_plan(r, self.sr, self.vram, self.bank_offset)
            self._plan_generation = r.generation
        self._plan.write(run)
        return count

    def _look(self) -> None:
        """Take the state that loads depend on from the registers."""
        r = self._r
        gr = r.gr
        mode = gr[GR_MODE]
        window = gr[GR_MISC] & 0x0C, mode & GR5_ODD_EVEN, self.sr[SR_MEMORY_MODE], self.bank_offset
        if window != self._window:
            self._place()
            self._window = window
        self._read_shift = 8 * (gr[GR_READ_MAP] & 3)
        self._compares = mode & GR5_READ_MODE_1
        self._generation = r.generation

    def _look_for_writes(self) -> None:
        """Take the state that writes depend on from the registers and latches."""
        r = self._r
        if self._generation != r.generation:
            self._look()
        self._open = PLANES[self.sr[SR_MAP_MASK] & 0x0F]
        self._converted.clear()
        self._write_generation = r.generation

    def _place(self) -> None:
        """Work out where in the window there is memory, and of which kind."""
        gr = self._r.gr
        window_map = (gr[GR_MISC] >> 2) & 3
        self._first, size = WINDOW_MAPS[window_map]
        bank = self.bank_offset if window_map == BANKED_MAP else 0
        self._origin = self._first - bank
        self._chain_4 = bool(self.sr[SR_MEMORY_MODE] & SR4_CHAIN_4)
        self._planar = not self._chain_4 and not gr[GR_MODE] & GR5_ODD_EVEN
        # Addresses that memory has: of words, of bytes, or of pairs that share a word.
        bytes_each = 4 if self._planar else 1 if self._chain_4 else 2
        self._end = self._first + min(size, len(self._bytes) // bytes_each - bank)

    def _matching(self, latch: int) -> int:
        """Read mode 1: a bit for each pixel that has the colour of GR2, as far as GR7 cares."""
        gr = self._r.gr
        differs = latch ^ PLANES[gr[GR_COLOR_COMPARE] & 0x0F]
        differs &= PLANES[gr[GR_COLOR_DONT_CARE] & 0x0F]
        differs |= differs >> 16
        return ~(differs | differs >> 8) & 0xFF

    def _paired(self, address: int) -> int:
        """The byte of an odd/even address."""
        pair = self._r.gr[GR_READ_MAP] & 2
        return ((address & ~1) << 1) | pair | (address & 1)


def planar_value(r: Registers, value: int) -> int:
    """Convert a written byte to the four planes' bytes, before the map mask.

    Rotation, set/reset, logic operation and bit mask of the four write modes (GR5 bits 1-0).
    """
    gr = r.gr
    write_mode = gr[GR_MODE] & 3
    if write_mode == 1:
        return r.latch
    bit_mask = gr[GR_BIT_MASK]
    rotate_operation = gr[GR_DATA_ROTATE]
    if write_mode == 2:
        data = PLANES[value & 0x0F]
    else:
        rotate = rotate_operation & 7
        if rotate:
            value = ((value >> rotate) | (value << (8 - rotate))) & 0xFF
        if write_mode == 3:
            bit_mask &= value
            data = PLANES[gr[GR_SET_RESET] & 0x0F]
        else:
            data = value * REPEAT
            fixed = gr[GR_ENABLE_SET_RESET] & 0x0F
            if fixed:
                data ^= (data ^ PLANES[gr[GR_SET_RESET] & 0x0F]) & PLANES[fixed]
    latch = r.latch
    operation = rotate_operation & 0x18
    if operation == 0x08:
        data &= latch
    elif operation == 0x10:
        data |= latch
    elif operation == 0x18:
        data ^= latch
    if bit_mask != 0xFF:
        return ((data ^ latch) & (bit_mask * REPEAT)) ^ latch
    return data
