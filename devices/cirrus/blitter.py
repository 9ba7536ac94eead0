"""The BitBLT engine: starts, refuses and ends blits, and takes what the system feeds it.

A blit runs inside the register write that starts it, or, with the system as its source, inside
the write that brings the last byte of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.cirrus.blit import Blit, Skip, read_blit, skip_of
from coalesced.devices.cirrus.drawing import (
    Side,
    bytes_per_row,
    color_pattern,
    copy,
    expand,
    fill,
    is_expansion,
    is_pattern,
    mono_pattern,
    unit_of,
)
from coalesced.devices.cirrus.registers import (
    GR30_BACKWARDS,
    GR30_COLOR_EXPAND,
    GR30_FROM_SYSTEM,
    GR30_PATTERN,
    GR30_TO_SYSTEM,
    GR30_TRANSPARENT,
    GR31_AUTOSTART,
    GR31_BUFFERED,
    GR31_BUSY,
    GR31_RESET,
    GR31_START,
    GR33_DWORD_GRANULARITY,
    GR33_SOLID_FILL,
    GR_BLT_KEY,
    GR_BLT_SKIP_LEFT,
    GR_BLT_STATUS,
)
from coalesced.devices.cirrus.rops import COPY_CODE

if TYPE_CHECKING:
    from coalesced.devices.bus.device import StateValue
    from coalesced.devices.cirrus.engine import U8
    from coalesced.devices.cirrus.registers import CirrusRegisters

BUFFER_SIZE: Final = 8192
"""Bytes of the engine's buffer for data of the system, and the most that a row may have."""


class Blitter:
    """The engine over a chip's registers and video memory."""

    def __init__(self, registers: CirrusRegisters, vram: U8, memory_size: int) -> None:
        """`vram` is what the engine reaches of `memory_size` bytes; addresses wrap at its end."""
        self._r = registers
        self._vram = vram
        self._memory_size = memory_size
        self._buffer: U8 = np.zeros(BUFFER_SIZE, np.uint8)
        self._blit: Blit | None = None
        self._row_size = 0
        self._filled = 0
        self._remaining = 0  # bytes of the system's data, those of the row under way included
        self._ended_once = False
        self.drawn = 0
        """Bytes of all rectangles so far, so that a caller can limit the work of one call."""

    # --- what the bus sees ---

    @property
    def receiving(self) -> bool:
        """Whether a blit waits for data: writes to video memory are then its data."""
        return self._filled != self._row_size

    @property
    def wanted(self) -> int:
        """Bytes that the blit under way still takes."""
        return self._remaining - self._filled if self.receiving else 0

    def write_status(self, value: int) -> None:
        """Write GR31: a falling reset bit aborts, else a rising start bit starts."""
        gr = self._r.gr
        old = gr[GR_BLT_STATUS]
        gr[GR_BLT_STATUS] = value
        if old & GR31_RESET and not value & GR31_RESET:
            self.abort()
        elif not old & GR31_START and value & GR31_START:
            self._start()

    def autostart(self) -> None:
        """Start a blit if GR31 wants one with each write of GR2A."""
        if self._r.gr[GR_BLT_STATUS] & GR31_AUTOSTART:
            self._start()

    def abort(self) -> None:
        """End the blit under way, finished or not."""
        self._r.gr[GR_BLT_STATUS] &= ~(GR31_START | GR31_BUSY | GR31_BUFFERED) & 0xFF
        looks_again = self._row_size or self._filled or not self._ended_once
        self._row_size = self._filled = self._remaining = 0
        self._blit = None
        self._ended_once = True
        if looks_again:
            self._r.map_memory(receiving=False)

    def feed(self, data: U8) -> None:
        """Take bytes of the system, at most as many as are wanted."""
        while len(data) and self.receiving:
            if self._filled == 0 and len(data) >= self._row_size and self._blit is not None:
                rows = min(len(data), self._remaining) // self._row_size
                if rows > 1 and self._can_take_rows(self._blit):
                    used = rows * self._row_size
                    self._draw_rows(self._blit, data[:used].reshape(rows, self._row_size))
                    data = data[used:]
                    continue
            count = min(len(data), self._row_size - self._filled)
            self._buffer[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            if self._filled == self._row_size:
                self._row_complete()

    def feed_byte(self, value: int) -> None:
        """Take one byte of the system while `receiving`."""
        self._buffer[self._filled] = value
        self._filled += 1
        if self._filled == self._row_size:
            self._row_complete()

    def state(self) -> dict[str, StateValue]:
        """The blit under way, and the buffer, which later blits may see through its gaps."""
        return {
            "blit": repr(self._blit).encode(),
            "blit_row_size": self._row_size,
            "blit_filled": self._filled,
            "blit_remaining": self._remaining,
            "blit_buffer": self._buffer.tobytes(),
            "blit_ended_once": int(self._ended_once),
        }

    # --- starting ---

    def _start(self) -> None:
        self._r.gr[GR_BLT_STATUS] |= GR31_BUSY
        b = read_blit(self._r, len(self._vram) - 1)
        kind = b.mode & (GR30_PATTERN | GR30_COLOR_EXPAND)
        if b.mode & GR30_FROM_SYSTEM and b.mode & GR30_TO_SYSTEM:
            self.abort()
        elif (
            b.extensions & GR33_SOLID_FILL
            and kind == GR30_PATTERN | GR30_COLOR_EXPAND
            and not b.mode & (GR30_TO_SYSTEM | GR30_TRANSPARENT)
        ):
            # QEMU refuses a fill without a trace: the engine stays busy until it is reset.
            if self._fits(b, source=False):
                self.drawn += b.width * b.height
                fill(self._vram, b)
                self.abort()
            elif self.receiving:
                # The blit that waits for data has become this one; with its row it ends.
                self._blit, self._remaining = b, self._row_size
        elif (kind == 0 and b.mode & GR30_TRANSPARENT and b.pixel > 2) or (b.mode & GR30_TO_SYSTEM):
            self.abort()  # no such transparency; QEMU has no blits to the system
        elif b.mode & GR30_FROM_SYSTEM:
            self._await_data(b)
        else:
            if self._remaining:
                source, src = self._buffer, b.src
            else:
                source, src = self._vram, b.src
            self._draw(b, source, src)
            self.abort()

    def _fits(self, b: Blit, *, source: bool) -> bool:
        """Say whether all of the blit lies inside memory. Nothing of one that does not is drawn.

        What counts is all memory, also where the engine reaches a part of it and wraps, as in QEMU.
        """
        if b.width > BUFFER_SIZE:
            return False
        backwards = b.mode & GR30_BACKWARDS and not b.mode & (GR30_PATTERN | GR30_COLOR_EXPAND)
        sides = [(b.dst, b.dst_pitch)]
        if source:
            sides.append((b.src, b.src_pitch))
        for start, pitch in sides:
            if not pitch:
                return False
            extent = (b.height - 1) * pitch + b.width
            if (start + 1 < extent) if backwards else (start + extent > self._memory_size):
                return False
        return True

    # --- from video memory ---

    def _draw(self, b: Blit, source: U8, src: int) -> None:
        skip = self._skip(b)
        if is_pattern(b):
            self._draw_pattern(b, source, skip)
            return
        self.drawn += b.width * b.height
        if is_expansion(b):
            if self._fits(b, source=True):
                rows = range(b.height)
                expand(self._vram, b, source, src, skip, rows, bytes_per_row(b, skip))
        elif (
            # QEMU does no plain copies while SR7 says that there are planes, all others it does.
            (self._r.pixel_bits or b.mode & GR30_TRANSPARENT or b.rop != COPY_CODE)
            and self._fits(b, source=True)
            # Nor forward copies whose rows overlap.
            and (
                b.height == 1 or b.mode & GR30_BACKWARDS or min(b.dst_pitch, b.src_pitch) >= b.width
            )
        ):
            # Rows of an odd width in 16-bit colour are a byte longer, and so each begins later.
            longer = -b.width % unit_of(b)
            to = Side(b.dst, b.dst_pitch + longer)
            self._copy(b, to, source, Side(src, b.src_pitch + longer), b.height)

    def _copy(self, b: Blit, to: Side, source: U8, origin: Side, height: int) -> None:
        key = self._r.field(GR_BLT_KEY, b.pixel) if b.mode & GR30_TRANSPARENT else -1
        copy(self._vram, b, to, source, origin, height, key)

    def _skip(self, b: Blit) -> Skip:
        return skip_of(self._r.gr[GR_BLT_SKIP_LEFT], b)

    def _draw_pattern(self, b: Blit, source: U8, skip: Skip) -> None:
        if not self._fits(b, source=False):
            return
        self.drawn += b.width * b.height
        if source is self._vram:
            # The screen's depth, not the blit's, says how patterns are aligned, as in QEMU, and
            # the low bits of the address do not choose the first line.
            size = {8: 64, 15: 128, 16: 128}.get(self._r.pixel_bits, 256)
            base, top = b.src & ~(size - 1), 0
        else:
            base, top = 0, b.src & 7
        if is_expansion(b):
            mono_pattern(self._vram, b, source, base, top, skip)
        else:
            color_pattern(self._vram, b, source, base, top, skip)

    # --- from the system ---

    def _await_data(self, b: Blit) -> None:
        if not self._fits(b, source=False):
            self.abort()
            return
        if is_pattern(b):
            self._row_size = 8 if is_expansion(b) else 64 * b.pixel
            self._remaining = self._row_size
        else:
            if is_expansion(b):
                pixels = b.width // b.pixel
                # Double words: QEMU counts bytes where the chip counts double words.
                dwords = b.extensions & GR33_DWORD_GRANULARITY
                self._row_size = (pixels + 31) // 32 if dwords else (pixels + 7) // 8
            else:
                self._row_size = (b.width + 3) & ~3
            self._remaining = self._row_size * b.height
        self._filled = 0
        self._blit = b
        self._r.map_memory(receiving=self.receiving)

    def _row_complete(self) -> None:
        b = self._blit
        if b is None:
            self.abort()
            return
        if is_pattern(b):
            self._draw_pattern(b, self._buffer, self._skip(b))
            self.abort()
            return
        done = b.height - self._remaining // self._row_size
        self._draw_row(b, done)
        self._next_rows(1)

    def _next_rows(self, rows: int) -> None:
        self._remaining -= rows * self._row_size
        self._filled = 0
        if self._remaining <= 0:
            self.abort()

    def _draw_row(self, b: Blit, row: int) -> None:
        """Draw one row from the buffer, which may hold older bytes behind those just fed."""
        if is_expansion(b):
            skip = self._skip(b)
            rows = range(row, row + 1)
            expand(self._vram, b, self._buffer, 0, skip, rows, bytes_per_row(b, skip))
            return
        dst = b.dst - row * b.dst_pitch if b.mode & GR30_BACKWARDS else b.dst + row * b.dst_pitch
        self._copy(b, Side(dst, 0), self._buffer, Side(0, 0), 1)

    def _can_take_rows(self, b: Blit) -> bool:
        if is_pattern(b):
            return False
        if is_expansion(b):
            skip = self._skip(b)
            return bytes_per_row(b, skip) <= self._row_size
        return not b.mode & GR30_BACKWARDS

    def _draw_rows(self, b: Blit, data: U8) -> None:
        """Draw several rows at once: none of them needs more than was fed for it."""
        row = b.height - self._remaining // self._row_size
        rows = range(row, row + len(data))
        if is_expansion(b):
            expand(self._vram, b, data.reshape(-1), 0, self._skip(b), rows, self._row_size)
        else:
            to = Side(b.dst + row * b.dst_pitch, b.dst_pitch)
            self._copy(b, to, data.reshape(-1), Side(0, self._row_size), len(data))
        self._buffer[: self._row_size] = data[-1]
        self._next_rows(len(data))
