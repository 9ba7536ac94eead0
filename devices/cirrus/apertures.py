"""The CPU's view of video memory: banks in the window at 0xa0000, the linear framebuffer.

While a blit waits for data of the system, writes to either are that data, wherever they go.
Two stretches of 256 bytes can be the blitter's registers instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.cirrus.linear import LinearWrites, addressing_shift
from coalesced.devices.cirrus.registers import (
    BANK_SIZE,
    SR17_REGISTERS_AT_END,
    SR17_REGISTERS_IN_MEMORY,
    SR_CONFIGURATION,
    VRAM_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from coalesced.devices.bus.write_run import U32, U64, WriteRun
    from coalesced.devices.cirrus.blitter import Blitter
    from coalesced.devices.cirrus.engine import U8
    from coalesced.devices.cirrus.registers import CirrusRegisters
    from coalesced.devices.vga.memory import PlanarMemory

BANKED_SIZE: Final = 0x10000
WINDOW_REGISTERS: Final = 0x18000
"""Offset of 0xb8000 in the window, where the blitter's registers may lie."""
REGISTERS_SIZE: Final = 0x100
LINEAR_REGISTERS: Final = VRAM_SIZE - REGISTERS_SIZE
"""Their other place: the end of the linear framebuffer."""
DATA_APERTURE: Final = 0x1000000
"""Offset in BAR0 of another 4 MiB that only take data for blits."""
BAR0_SIZE: Final = 0x2000000
OUTSIDE: Final = 0xFF
SINGLE_WRITES: Final = 64
"""Writes to registers that are looked at in one call; a driver starts a blit with some 20."""
DRAWN_IN_ONE_GO: Final = 1 << 22
"""Bytes of blits after which a call takes no more writes; up to 10 ms."""


class Apertures:
    """The window and BAR0 over one video memory; offsets count from their starts."""

    def __init__(
        self,
        registers: CirrusRegisters,
        vram: U8,
        planar: PlanarMemory,
        blitter: Blitter,
        read_register: Callable[[int], int],
        write_registers: Callable[[int, int, int], None],
    ) -> None:
        """The blitter's registers by offset, 0 to 0xff: `read_register(offset)` a byte,
        `write_registers(offset, size, value)` several, lowest first.
        """
        self._r = registers
        self._size = len(vram)
        self._mask = registers.variant.vram_size - 1
        self._bytes = vram.data
        self._planar = planar
        self._blitter = blitter
        self._read_register = read_register
        self._write_registers = write_registers
        self._linear = LinearWrites(registers, vram)

    # --- window ---

    def read_window(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes of the window, lowest first."""
        if not self._r.extended and not self._r.banks_mapped:
            return self._planar.read(offset, size)
        value = 0
        for position in range(size):
            value |= self._read_window_byte(offset + position) << (8 * position)
        return value

    def write_window(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes to the window, lowest first; any of them may start or end a blit.

        A change of the mapping takes effect with the next write.
        """
        register = offset - WINDOW_REGISTERS
        if 0 <= register <= REGISTERS_SIZE - size and self._r.extended:
            if self._registers_in_window():
                self._write_registers(register, size, value)
            return
        mapped = self._r.banks_mapped
        for position in range(size):
            self._write_window_byte(offset + position, value >> (8 * position) & 0xFF, mapped)

    def take_window_run(self, run: WriteRun) -> int:
        """Do what calls of `write_window` would; see Region for the result."""
        offsets, sizes, values = run.addresses, run.sizes, run.values
        if not self._r.extended:
            if self._r.banks_mapped:
                return self._write_singly(self.write_window, offsets, sizes, values)
            return self._planar.take_run(run)
        # All but memory is rare: registers, and the part of the window that nothing answers.
        plain = self._count_below(offsets, sizes, BANKED_SIZE)
        if not plain:
            return self._write_singly(self.write_window, offsets, sizes, values, BANKED_SIZE)
        run = run.part(0, plain)
        if self._blitter.receiving:
            return self._feed_run(self.write_window, run.addresses, run.sizes, run.values)
        return self._write_bank(run)

    def _write_bank(self, run: WriteRun) -> int:
        """Write those of the first writes that lie in one half of the window, or one across."""
        offsets, sizes, values = run.addresses, run.sizes, run.values
        half = int(offsets[0]) >> 15
        mapped = self._r.banks_mapped
        base, limit = self._bank(half, mapped)
        first, stop = half * BANK_SIZE, (half + 1) * BANK_SIZE
        following, following_limit = self._bank(1, mapped)
        if half == 0 and limit == BANK_SIZE and following == base + BANK_SIZE:
            stop, limit = BANKED_SIZE, BANK_SIZE + following_limit
        inside = (offsets >= first) & (offsets + sizes <= stop)
        count = len(inside) if inside.all() else int(inside.argmin())
        if not count:
            return self._write_singly(self.write_window, offsets[:1], sizes[:1], values[:1])
        run = run.part(0, count)
        return self._linear.take_run(run.rebased(first) if first else run, base, limit)

    def _read_window_byte(self, offset: int) -> int:
        extended, mapped = self._r.extended, self._r.banks_mapped
        if offset < BANKED_SIZE and (extended or mapped):
            base, limit = self._bank(offset >> 15, mapped)
            at = offset & (BANK_SIZE - 1)
            if at < limit:
                return self._bytes[self._shifted(base + at)]
            if extended:
                return OUTSIDE
        if not extended:
            return self._planar.read(offset, 1)
        register = offset - WINDOW_REGISTERS
        if 0 <= register < REGISTERS_SIZE and self._registers_in_window():
            return self._read_register(register)
        return OUTSIDE

    def _write_window_byte(self, offset: int, value: int, mapped: bool) -> None:
        extended = self._r.extended
        if offset < BANKED_SIZE and (extended or mapped):
            if self._blitter.receiving:
                self._blitter.feed_byte(value)
                return
            base, limit = self._bank(offset >> 15, mapped)
            at = offset & (BANK_SIZE - 1)
            if at < limit:
                self._linear.write_byte(base + at, value)
                return
            if extended:
                return
        if not extended:
            self._planar.write(offset, 1, value)
            return
        register = offset - WINDOW_REGISTERS
        if 0 <= register < REGISTERS_SIZE and self._registers_in_window():
            self._write_registers(register, 1, value)

    def _bank(self, number: int, mapped: bool) -> tuple[int, int]:
        """Return where a half of the window begins in memory, and how many bytes it has there."""
        base = self._r.bank_bases[number]
        limit = self._size - base if mapped else self._r.bank_limits[number]
        return base, min(limit, BANK_SIZE)

    def _registers_in_window(self) -> bool:
        place = self._r.sr[SR_CONFIGURATION] & (SR17_REGISTERS_IN_MEMORY | SR17_REGISTERS_AT_END)
        return place == SR17_REGISTERS_IN_MEMORY

    def _shifted(self, address: int) -> int:
        shift = addressing_shift(self._r)
        return address << shift & self._mask if shift else address

    # --- BAR0: the linear framebuffer, and the aperture for data ---

    def read_linear(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes of BAR0."""
        value = 0
        for position in range(size):
            value |= self._read_linear_byte(offset + position) << (8 * position)
        return value

    def write_linear(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes to BAR0, lowest first; mappings change as in `write_window`."""
        mapped = self._r.linear_mapped
        register = offset - LINEAR_REGISTERS
        if 0 <= register <= REGISTERS_SIZE - size and self._registers_at_end():
            self._write_registers(register, size, value)
            return
        for position in range(size):
            self._write_linear_byte(offset + position, value >> (8 * position) & 0xFF, mapped)

    def take_linear_run(self, run: WriteRun) -> int:
        """Do what calls of `write_linear` would; see Region for the result."""
        offsets, sizes, values = run.addresses, run.sizes, run.values
        if self._r.linear_mapped:
            end = self._size
        else:
            end = LINEAR_REGISTERS if self._registers_at_end() else VRAM_SIZE
        plain = self._count_below(offsets, sizes, end)
        if not plain:
            if self._blitter.receiving and offsets[0] >= DATA_APERTURE:
                return self._feed_aperture(offsets, sizes, values)
            return self._write_singly(self.write_linear, offsets, sizes, values, end)
        run = run.part(0, plain)
        if self._blitter.receiving:
            return self._feed_run(self.write_linear, run.addresses, run.sizes, run.values)
        return self._linear.take_run(run, 0, end)

    def _read_linear_byte(self, offset: int) -> int:
        if offset < self._size:
            if self._r.linear_mapped:
                return self._bytes[offset]
            offset &= self._mask
            if offset >= LINEAR_REGISTERS and self._registers_at_end():
                return self._read_register(offset & 0xFF)
            return self._bytes[self._shifted(offset)]
        return OUTSIDE if DATA_APERTURE <= offset < DATA_APERTURE + VRAM_SIZE else 0

    def _write_linear_byte(self, offset: int, value: int, mapped: bool) -> None:
        if offset < self._size:
            if mapped:
                self._bytes[offset] = value
                return
            offset &= self._mask
            if offset >= LINEAR_REGISTERS and self._registers_at_end():
                self._write_registers(offset & 0xFF, 1, value)
            elif self._blitter.receiving:
                self._blitter.feed_byte(value)
            else:
                self._linear.write_byte(offset, value)
        elif DATA_APERTURE <= offset < DATA_APERTURE + VRAM_SIZE and self._blitter.receiving:
            self._blitter.feed_byte(value)

    def _registers_at_end(self) -> bool:
        both = SR17_REGISTERS_IN_MEMORY | SR17_REGISTERS_AT_END
        return self._r.sr[SR_CONFIGURATION] & both == both

    def _feed_aperture(self, offsets: U64, sizes: U32, values: U64) -> int:
        inside = (offsets >= DATA_APERTURE) & (
            offsets + sizes <= np.uint64(DATA_APERTURE + VRAM_SIZE)
        )
        count = len(inside) if inside.all() else int(inside.argmin())
        if not count:
            return self._write_singly(self.write_linear, offsets[:1], sizes[:1], values[:1])
        return self._feed_run(self.write_linear, offsets[:count], sizes[:count], values[:count])

    # --- runs ---

    @staticmethod
    def _count_below(offsets: U64, sizes: U32, end: int) -> int:
        """Number of leading writes that lie wholly below `end`."""
        if offsets.max() + sizes.max() <= end:
            return len(offsets)
        beyond = offsets + sizes > end
        return int(beyond.argmax()) if beyond.any() else len(offsets)

    def _write_singly(
        self,
        write: Callable[[int, int, int], None],
        offsets: U64,
        sizes: U32,
        values: U64,
        until: int = -1,
    ) -> int:
        """Write one by one, up to SINGLE_WRITES or the first that ends at or below `until`.

        Writes after a large blit wait for another call: a run of writes may start hundreds.
        """
        done = 0
        most = self._blitter.drawn + DRAWN_IN_ONE_GO
        for offset, size, value in zip(
            offsets[:SINGLE_WRITES].tolist(),
            sizes[:SINGLE_WRITES].tolist(),
            values[:SINGLE_WRITES].tolist(),
            strict=True,
        ):
            if offset + size <= until:
                break
            write(offset, size, value)
            done += 1
            if self._blitter.drawn > most:
                break
        return done

    def _feed_run(
        self, write: Callable[[int, int, int], None], offsets: U64, sizes: U32, values: U64
    ) -> int:
        """Feed the blit under way with as many whole writes as it takes.

        The write that brings its last byte may bring more, which is then written to memory.
        """
        size = int(sizes[0])
        count = len(offsets)
        if (sizes != size).any():
            count = int((sizes != size).argmax())
        count = min(count, self._blitter.wanted // size)
        if not count:
            return self._write_singly(write, offsets[:1], sizes[:1], values[:1])
        if size == 1:
            data = values[:count].astype(np.uint8)
        else:
            little_endian = np.ascontiguousarray(values[:count], dtype="<u8").view(np.uint8)
            data = little_endian.reshape(-1, 8)[:, :size].reshape(-1)
        self._blitter.feed(data)
        return count
