"""A Cirrus under test, its registers, and the blitter's loops written out byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from coalesced.devices.bus.write_run import WriteRun
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import GD5446_PCI, VRAM_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray


WINDOW_REGISTERS = 0x18000
END_REGISTERS = VRAM_SIZE - 256
FROM_SYSTEM, TO_SYSTEM, BACKWARDS, TRANSPARENT, PATTERN, EXPAND = 4, 2, 1, 8, 0x40, 0x80
SOLID, INVERT = 4, 2
_NOISE, _APART = 1 << 20, 0x1081
COPY = 0x0D

TRUTH: dict[int, Callable[[int, int], int]] = {
    0x00: lambda s, d: 0,
    0x05: lambda s, d: s & d,
    0x06: lambda s, d: d,
    0x09: lambda s, d: s & ~d,
    0x0B: lambda s, d: ~d,
    0x0D: lambda s, d: s,
    0x0E: lambda s, d: 0xFF,
    0x50: lambda s, d: ~s & d,
    0x59: lambda s, d: s ^ d,
    0x6D: lambda s, d: s | d,
    0x90: lambda s, d: ~s | ~d,
    0x95: lambda s, d: ~(s ^ d),
    0xAD: lambda s, d: s | ~d,
    0xD0: lambda s, d: ~s,
    0xD6: lambda s, d: ~s | d,
    0xDA: lambda s, d: ~s & ~d,
}
"""The raster operations on bytes; bits above the low eight do not count."""


def outb(chip: CirrusChip, port: int, value: int) -> None:
    chip.ports.write(port - 0x3B0, 1, value)


def inb(chip: CirrusChip, port: int) -> int:
    return chip.ports.read(port - 0x3B0, 1)


def set_sr(chip: CirrusChip, index: int, value: int) -> None:
    chip.ports.write(0x3C4 - 0x3B0, 2, index | value << 8)


def set_gr(chip: CirrusChip, index: int, value: int) -> None:
    chip.ports.write(0x3CE - 0x3B0, 2, index | value << 8)


def set_cr(chip: CirrusChip, index: int, value: int) -> None:
    chip.ports.write(0x3D4 - 0x3B0, 2, index | value << 8)


def get(chip: CirrusChip, port: int, index: int) -> int:
    outb(chip, port, index)
    return inb(chip, port + 1)


def status(chip: CirrusChip) -> int:
    return get(chip, 0x3CE, 0x31)


def new_chip(*, seed: int | None = None, sr7: int = 0x01) -> CirrusChip:
    """A chip with the CRTC at 0x3d4, in an extended mode, its memory random if a seed is given."""
    chip = CirrusChip(GD5446_PCI)
    outb(chip, 0x3C2, 0x01)
    set_sr(chip, 0x07, sr7)
    if seed is not None:
        at = seed * _APART % _NOISE
        chip.vram[:] = _noise()[at : at + VRAM_SIZE]
    return chip


@cache
def _noise() -> NDArray[np.uint8]:
    """Random bytes; each seed has its own part of them, since drawing a part takes long."""
    return np.random.default_rng(1).integers(0, 256, _NOISE + VRAM_SIZE, np.uint8)


@dataclass(frozen=True)
class Program:
    """The blitter's registers; width in bytes."""

    mode: int
    width: int
    height: int
    dst: int
    src: int = 0
    dst_pitch: int = 640
    src_pitch: int = 640
    rop: int = COPY
    extensions: int = 0
    foreground: int = 0
    background: int = 0
    key: int = 0
    skip: int = 0

    def load(self, chip: CirrusChip) -> None:
        """Write all registers but the status."""
        pairs = (
            (0x20, self.width - 1, 2),
            (0x22, self.height - 1, 2),
            (0x24, self.dst_pitch, 2),
            (0x26, self.src_pitch, 2),
            (0x28, self.dst, 3),
            (0x2C, self.src, 3),
            (0x34, self.key, 2),
        )
        for index, value, size in pairs:
            for byte in range(size):
                set_gr(chip, index + byte, value >> (8 * byte) & 0xFF)
        for indices, color in (
            ((0, 0x10, 0x12, 0x14), self.background),
            ((1, 0x11, 0x13, 0x15), self.foreground),
        ):
            for byte, index in enumerate(indices):
                set_gr(chip, index, color >> (8 * byte) & 0xFF)
        set_gr(chip, 0x2F, self.skip)
        set_gr(chip, 0x30, self.mode)
        set_gr(chip, 0x32, self.rop)
        set_gr(chip, 0x33, self.extensions)

    def run(self, chip: CirrusChip) -> None:
        """Load the registers and start from rest."""
        self.load(chip)
        set_gr(chip, 0x31, 0x00)
        set_gr(chip, 0x31, 0x02)


def copy_slowly(memory: bytearray, p: Program) -> None:
    """Copies without transparency or with an 8-bit one, a byte at a time."""
    step = -1 if p.mode & BACKWARDS else 1
    rop = TRUTH[p.rop]
    for row in range(p.height):
        for column in range(p.width):
            dst = p.dst + step * (row * p.dst_pitch + column)
            src = p.src + step * (row * p.src_pitch + column)
            result = rop(memory[src], memory[dst]) & 0xFF
            if not p.mode & TRANSPARENT or result != p.key & 0xFF:
                memory[dst] = result


def draw_slowly(memory: bytearray, p: Program, pixel: int) -> None:
    """Solid fills, patterns and expansions from video memory, pixel by pixel; no skip."""
    rop = TRUTH[p.rop]
    source = p.src
    for row in range(p.height):
        bits = memory[p.src + row % 8]  # of a pattern, fetched once per row
        for column in range(p.width // pixel):
            if p.mode & EXPAND and not p.extensions & SOLID:
                if column % 8 == 0 and not p.mode & PATTERN:
                    bits = memory[source + column // 8]
                bit = bits >> (7 - column % 8) & 1
                if p.mode & TRANSPARENT:
                    bit ^= bool(p.extensions & INVERT)
                    color = p.background if p.extensions & INVERT else p.foreground
                    if not bit:
                        continue
                else:
                    color = p.foreground if bit else p.background
                value = color.to_bytes(4, "little")[:pixel]
            elif p.extensions & SOLID:
                value = p.foreground.to_bytes(4, "little")[:pixel]
            else:
                pitch = 32 if pixel == 3 else 8 * pixel
                at = p.src + row % 8 * pitch + column % 8 * pixel
                value = bytes(memory[at : at + pixel])
            for byte in range(pixel):
                dst = p.dst + row * p.dst_pitch + column * pixel + byte
                memory[dst] = rop(value[byte], memory[dst]) & 0xFF
        source += (p.width // pixel + 7) // 8


def entries(run: Iterable[tuple[int, int, int]]) -> WriteRun:
    """Writes (offset, size, value) as they come out of a ring: read-only, 24 bytes apart."""
    writes = list(run)
    ring = np.zeros(
        len(writes), [("address", "<u8"), ("len", "<u4"), ("pio", "<u4"), ("data", "<u8")]
    )
    for field, column in zip(("address", "len", "data"), zip(*writes, strict=True), strict=True):
        ring[field] = column
    ring.flags.writeable = False
    return WriteRun.of(ring["address"], ring["len"], ring["data"])
