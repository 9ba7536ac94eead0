"""Scripts about the Cirrus: extended registers, apertures, the blitter."""

from __future__ import annotations

import random
from collections.abc import Callable

from conformance_script import Lines, Script, seeded
from conformance_vga import PORTS, WINDOW, write_latches

LFB = 0xE000_0000
BLIT_DATA = LFB + (16 << 20)
REGISTERS = 0xFEB0_0000
ON_PCI = ("cirrus-vga,addr=02.0",)

# GR30 and GR33, the blitter's mode
BACKWARDS = 0x01
FROM_SYSTEM = 0x04
TRANSPARENT = 0x08
PATTERN = 0x40
EXPAND = 0x80
SOLID_FILL = 0x04
INVERT = 0x02
DWORDS = 0x01

ROPS = (
    0x00,
    0x05,
    0x06,
    0x09,
    0x0B,
    0x0D,
    0x0E,
    0x50,
    0x59,
    0x6D,
    0x90,
    0x95,
    0xAD,
    0xD0,
    0xD6,
    0xDA,
)


def map_bars(lines: Lines) -> None:
    """Video memory at LFB, registers at REGISTERS; extended registers unlocked."""
    lines.config_write(2, 0x10, LFB)
    lines.config_write(2, 0x14, REGISTERS)
    lines.config_write(2, 0x04, 3, 2)
    lines.indexed(0x3C4, 6, 0x12)


def _registers(lines: Lines) -> None:
    """Every index of every group with patterns; the hidden DAC; registers in memory."""
    map_bars(lines)
    for misc in (0x01, 0x67):
        lines.out(0x3C2, misc)
        for lock in (0x12, 0x00, 0xFF, 0x5A):
            lines.indexed(0x3C4, 6, lock)
            lines.in_(0x3C5)
        for port, count in ((0x3C4, 0x20), (0x3CE, 0x40), (0x3D4, 0x30)):
            for index in range(count):
                if port == 0x3CE and index == 0x31:
                    continue
                lines.out(port, index)
                lines.in_(port + 1)
                for value in (0xFF, 0x00, 0x5A, 0x04):
                    lines.out(port + 1, value)
                    lines.in_(port)
                    lines.in_(port + 1)
    for count in (1, 3, 4, 5, 6):
        lines.in_(0x3C8)
        for _ in range(count):
            lines.in_(0x3C6)
        lines.out(0x3C6, 0xC0 | count)
        lines.in_(0x3C6)
    for offset in (*range(0x00, 0x48), *range(0x100, 0x150), 0xFF, 0x1FF, 0x200, 0xFFC):
        lines.load(REGISTERS + offset)
        lines.load(REGISTERS + offset, 4)
    for port in range(0x3B0, 0x3E0):
        for size in (1, 2, 4):
            lines.in_(port, size)


def _modes(lines: Lines, rng: random.Random) -> None:
    """GR0B and SR7: extended write modes, latches, banks; GR9 and GRA: the banks."""
    lines.indexed(0x3C4, 2, 0x0F)
    lines.indexed(0x3C4, 4, rng.choice((0x06, 0x0E)))
    lines.indexed(0x3CE, 6, rng.choice((0x01, 0x05)))
    lines.indexed(0x3CE, 5, rng.choice((0, 1, 2, 3, 4, 5)))
    lines.indexed(0x3CE, 8, 0xFF)
    lines.indexed(0x3C4, 7, rng.choice((0x00, 0x01, 0x11, 0x17, 0xF1)))
    lines.indexed(0x3CE, 0x0B, rng.choice((0x00, 0x01, 0x02, 0x04, 0x06, 0x0C, 0x14, 0x16, 0x20)))
    lines.indexed(0x3CE, 9, rng.choice((0, 1, 0x10, 0x7E)))
    lines.indexed(0x3CE, 10, rng.choice((0, 4, 0x40, 0x80)))
    for index in (0, 1, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15):
        lines.indexed(0x3CE, index, rng.randrange(256))


def _memory(lines: Lines) -> None:
    """Writes through the window and the linear aperture under all memory modes."""
    rng = seeded("cirrus memory")
    map_bars(lines)
    for _ in range(150):
        _modes(lines, rng)
        for _ in range(10):
            base = rng.choice((WINDOW, WINDOW + 0x8000, WINDOW + 0x10000, LFB, LFB + 0x10000))
            size = rng.choice((1, 1, 2, 4, 8))
            lines.store(base + rng.randrange(64), rng.randrange(1 << (8 * size)), size)
        for base in (WINDOW, WINDOW + 0x8000, LFB):
            lines.read(base + rng.randrange(8), 24)
    for address in (LFB + (4 << 20) - 4, LFB + (15 << 20), BLIT_DATA, LFB + (20 << 20)):
        for size in (1, 2, 4, 8):
            lines.load(address, size)
            lines.store(address, 0x11, size)


def _blit(
    lines: Lines,
    mode: int,
    rop: int,
    geometry: tuple[int, int, int, int],
    places: tuple[int, int],
    extended: int = 0,
) -> None:
    """Set the blitter up and start it. `geometry`: width, height, both pitches."""
    width, height, target_pitch, source_pitch = geometry
    target, source = places
    for index, value in (
        (0x20, width - 1),
        (0x22, height - 1),
        (0x24, target_pitch),
        (0x26, source_pitch),
    ):
        lines.indexed(0x3CE, index, value & 0xFF)
        lines.indexed(0x3CE, index + 1, value >> 8 & 0x1F)
    for index, value in ((0x28, target), (0x2C, source)):
        for byte in range(3):
            lines.indexed(0x3CE, index + byte, value >> (8 * byte) & 0xFF)
    lines.indexed(0x3CE, 0x30, mode)
    lines.indexed(0x3CE, 0x32, rop)
    lines.indexed(0x3CE, 0x33, extended)
    lines.indexed(0x3CE, 0x31, 0x02)
    lines.in_(0x3CF)


def _fill_memory(lines: Lines, rng: random.Random) -> None:
    lines.indexed(0x3C4, 7, 0x11)
    lines.indexed(0x3CE, 0x0B, 0x00)
    lines.write(LFB, rng.randbytes(0x1000))


def _colours(lines: Lines, rng: random.Random) -> None:
    for index in (0, 1, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x34, 0x35):
        lines.indexed(0x3CE, index, rng.randrange(256))


def _copies(lines: Lines) -> None:
    """Screen to screen, forwards and backwards, transparent, every raster operation."""
    rng = seeded("cirrus copies")
    map_bars(lines)
    for rop in (*ROPS, 0x33, 0xFF):
        _fill_memory(lines, rng)
        for depth in (0x00, 0x10):
            for mode in (0, BACKWARDS, TRANSPARENT, BACKWARDS | TRANSPARENT):
                _colours(lines, rng)
                ends = (0x7F0, 0x3F0) if mode & BACKWARDS else (0x400, 0x10)
                geometry = (rng.randrange(1, 40), rng.randrange(1, 6), 64, 48)
                _blit(lines, mode | depth, rop, geometry, ends)
                lines.read(LFB + 0x300, 0x500)


def _patterns(lines: Lines) -> None:
    """Colour patterns, monochrome patterns, expansions and solid fills at all depths."""
    rng = seeded("cirrus patterns")
    map_bars(lines)
    for screen in (0x11, 0x17, 0x15, 0x19):
        for depth in (0x00, 0x10, 0x20, 0x30):
            _fill_memory(lines, rng)
            lines.indexed(0x3C4, 7, screen)
            for mode, extended in (
                (PATTERN, 0),
                (PATTERN | EXPAND, 0),
                (PATTERN | EXPAND | TRANSPARENT, 0),
                (EXPAND, 0),
                (EXPAND | TRANSPARENT, 0),
                (EXPAND, INVERT),
                (EXPAND | TRANSPARENT, INVERT),
                (PATTERN | EXPAND, SOLID_FILL),
                (EXPAND, DWORDS),
            ):
                _colours(lines, rng)
                lines.indexed(0x3CE, 0x2F, rng.randrange(8))
                geometry = (rng.randrange(1, 50), rng.randrange(1, 12), 96, 8)
                _blit(lines, mode | depth, rng.choice(ROPS), geometry, (0x400, 0x80), extended)
                lines.read(LFB + 0x3E0, 0x600)


def _from_system(lines: Lines) -> None:
    """Data of a blit through the window, the linear aperture and the one for data."""
    rng = seeded("cirrus system")
    map_bars(lines)
    for mode in (FROM_SYSTEM, FROM_SYSTEM | EXPAND, FROM_SYSTEM | EXPAND | TRANSPARENT):
        for depth in (0x00, 0x10):
            for base in (BLIT_DATA, LFB, WINDOW):
                for extended in (0, DWORDS):
                    _fill_memory(lines, rng)
                    _colours(lines, rng)
                    geometry = (rng.randrange(1, 30), rng.randrange(1, 5), 64, 0)
                    _blit(lines, mode | depth, 0x0D, geometry, (0x400, 0), extended)
                    for turn in range(60):
                        address = base + 4 * (turn % 16)
                        lines.store(address, rng.randrange(1 << 32), 4)
                        if turn % 20 == 19:
                            lines.out(0x3CE, 0x31)
                            lines.in_(0x3CF)
                    lines.read(LFB + 0x3C0, 0x200)
                    lines.indexed(0x3CE, 0x31, 0x04)
                    lines.indexed(0x3CE, 0x31, 0x00)


def _in_the_window(lines: Lines) -> None:
    """Blitter registers among coalesced memory: a blit starts in the middle of queued writes."""
    rng = seeded("cirrus window registers")
    map_bars(lines)
    lines.indexed(0x3CE, 6, 0x05)
    for select, base in ((0x04, 0xB8000), (0x44, LFB + (4 << 20) - 0x100)):
        lines.indexed(0x3C4, 0x17, select)
        for _ in range(25):
            _fill_memory(lines, rng)
            for offset, value in (
                (0x08, rng.randrange(1, 32)),
                (0x0A, rng.randrange(1, 4)),
                (0x0C, 64),
                (0x0E, 64),
            ):
                lines.store(base + offset, value, 2)
            lines.store(base + 0x10, 0x800, 4)
            lines.store(base + 0x14, rng.randrange(0x400), 4)
            lines.store(base + 0x18, rng.choice((0, PATTERN, EXPAND)))
            lines.store(base + 0x1A, rng.choice(ROPS))
            lines.store(base + 0x1B, 0)
            lines.store(base + 0x40, 0x02)
            for offset in range(0x800, 0x810):
                lines.store(LFB + offset, rng.randrange(256))
            lines.load(base + 0x40)
            lines.read(LFB + 0x7F0, 0x140)
    lines.indexed(0x3C4, 0x17, 0)


def _random_ops(name: str, count: int, linear: bool) -> Callable[[Lines], None]:
    """Legal and illegal alike."""

    def build(lines: Lines) -> None:
        rng = seeded(name)
        if linear:
            map_bars(lines)
        lines.out(0x3C2, 0x67)
        for _ in range(count):
            _random_op(lines, rng, linear)

    return build


def _random_op(lines: Lines, rng: random.Random, linear: bool) -> None:
    what = rng.random()
    size = rng.choice((1, 1, 1, 2, 4))
    value = rng.randrange(1 << (8 * size))
    if what < 0.35:
        port, count = rng.choice(((0x3C4, 0x20), (0x3CE, 0x36), (0x3D4, 0x28)))
        lines.indexed(port, rng.randrange(count), rng.randrange(256))
    elif what < 0.45:
        lines.out(rng.choice(PORTS), rng.randrange(256))
    elif what < 0.55:
        lines.in_(rng.choice(PORTS), size)
    elif what < 0.75:
        lines.store(WINDOW + rng.randrange(0x20000 - 8), value, size)
    elif what < 0.85 or not linear:
        lines.load(WINDOW + rng.randrange(0x20000 - 8), size)
    elif what < 0.92:
        lines.store(
            LFB + rng.choice((0, 0x3FFF00, 0x1000000)) + rng.randrange(0x100 - 8), value, size
        )
    elif what < 0.96:
        lines.load(LFB + rng.choice((0, 0x3FFF00, 0x1000000)) + rng.randrange(0x100 - 8), size)
    else:
        lines.store(REGISTERS + rng.choice((0, 0x100)) + rng.randrange(0x44), value, size)


def _look_at_banks(lines: Lines) -> None:
    """Read and write at the edges of the window's halves."""
    for offset in (0, 0x3FFC, 0x4000, 0x7FFC, 0x8000, 0xBFFC, 0xC000, 0xFFFC):
        lines.load(WINDOW + offset, 8)
        lines.store(WINDOW + offset + 1, offset >> 8 | 1, 2)
        lines.load(WINDOW + offset, 4)


def _mark_memory(lines: Lines, size: int) -> None:
    """Bytes that tell where they lie: through the window, as there is no other way on ISA."""
    lines.indexed(0x3CE, 0x0B, 0x20)
    for bank in range(0, size >> 14, 2):
        lines.indexed(0x3CE, 9, bank)
        for offset in (0, 0x3FF8, 0x4000, 0x7FF8):
            lines.store(WINDOW + offset, (bank + 1) * 0x0101_0101 + offset, 4)
    lines.indexed(0x3CE, 0x0B, 0x00)


def _banks(size: int) -> Callable[[Lines], None]:
    """Each bank, single and double, behind the end of memory, too, plain and shifted."""

    def build(lines: Lines) -> None:
        lines.out(0x3C2, 0x67)
        lines.indexed(0x3C4, 7, 0x01)
        _look_at_banks(lines)  # no bank has been chosen yet
        lines.indexed(0x3C4, 0x17, 0x04)
        _look_at_banks(lines)  # mapped all the same
        _mark_memory(lines, size)
        for extensions in (0x00, 0x01, 0x20, 0x21, 0x02, 0x22, 0x23, 0x34, 0x04, 0x24):
            lines.indexed(0x3CE, 0x0B, extensions)
            for bank in (0x00, 0x10, 0x7E, 0x7F, 0x80, 0xF8, 0xFC, 0xFE, 0xFF):
                lines.indexed(0x3CE, 9, bank)
                lines.indexed(0x3CE, 10, bank ^ 0x81)
                _look_at_banks(lines)
        for sr7 in (0x00, 0x01, 0x11, 0x00):
            lines.indexed(0x3CE, 0x0B, 0x20)
            lines.indexed(0x3C4, 7, sr7)
            _look_at_banks(lines)

    return build


def _first_end(lines: Lines) -> None:
    """The first end of a blit looks anew where memory lies; later ones of the same kind do not."""
    map_bars(lines)
    lines.indexed(0x3C4, 7, 0x01)
    lines.store(LFB, 0x4433_2211, 4)
    for turn in range(3):
        _look_at_banks(lines)
        if turn == 1:
            lines.indexed(0x3C4, 7, 0x00)
            lines.indexed(0x3C4, 7, 0x01)
        lines.indexed(0x3CE, 0x31, 0x04)
        lines.indexed(0x3CE, 0x31, 0x00)
        _look_at_banks(lines)
    lines.indexed(0x3CE, 9, 0x00)
    lines.indexed(0x3C4, 7, 0x00)
    for mode in (FROM_SYSTEM | PATTERN | EXPAND, FROM_SYSTEM | EXPAND, FROM_SYSTEM):
        _blit(lines, mode | 0x30, 0x0D, (4, 1, 64, 64), (0x400, 0))
        lines.indexed(0x3C4, 7, 0x01)
        lines.write(BLIT_DATA, bytes(range(0x40)))
        _look_at_banks(lines)
        lines.indexed(0x3C4, 7, 0x00)
        _look_at_banks(lines)
    _blit(lines, FROM_SYSTEM | EXPAND | 0x30, 0x0D, (2, 1, 64, 64), (0x400, 0))  # without a byte
    _look_at_banks(lines)
    # A refused fill takes the place of the blit that waits.
    lines.indexed(0x3C4, 7, 0x01)
    _blit(lines, FROM_SYSTEM, 0x0D, (8, 4, 64, 64), (0x400, 0))
    lines.indexed(0x3CE, 0x31, 0x00)
    _blit(lines, PATTERN | EXPAND, 0x0D, (8, 4, 0, 0), (0x800, 0), SOLID_FILL)
    for number in range(8):
        lines.store(LFB + 0x900 + number, 0x81 + number)
    lines.read(LFB + 0x3F0, 0x40)
    lines.read(LFB + 0x8F0, 0x20)


def _kept_by_reset(lines: Lines) -> None:
    """Kept by a reset: memory, banks, latches, GR0 and GR1, hidden colours, a waiting blit."""
    map_bars(lines)
    lines.out(0x3C2, 0x67)
    lines.indexed(0x3C4, 7, 0x01)
    for index, value in ((0, 0xA5), (1, 0x5A), (0x10, 0x11), (9, 0x05), (5, 0x00)):
        lines.indexed(0x3CE, index, value)
    lines.write(LFB, bytes(range(256)))
    lines.write(LFB + 0x5000, bytes(range(255, -1, -1)))
    lines.indexed(0x3C4, 0x12, 0x02)
    for start in (0x00, 0x0F):
        lines.out(0x3C8, start)
        for component in (0x3F, 0x15, 0x2A):
            lines.out(0x3C9, component)
    lines.indexed(0x3C4, 7, 0x00)
    lines.indexed(0x3CE, 9, 0x05)
    lines.load(WINDOW + 8)
    lines.indexed(0x3C4, 7, 0x01)
    _blit(lines, FROM_SYSTEM, 0x0D, (8, 2, 64, 64), (0x5040, 0))
    lines.write(BLIT_DATA, bytes((0x71, 0x72, 0x73)))
    lines.reset()
    lines.load(LFB, 4)
    lines.load(WINDOW, 4)
    map_bars(lines)
    lines.out(0x3C2, 0x67)
    for index in (0, 1, 0x10, 9, 0x31):
        lines.out(0x3CE, index)
        lines.in_(0x3CF)
    lines.read(LFB, 256)
    lines.indexed(0x3C4, 7, 0x01)
    _look_at_banks(lines)
    lines.write(BLIT_DATA, bytes(range(0x30)))
    lines.read(LFB + 0x5000, 256)
    _look_at_banks(lines)
    lines.indexed(0x3C4, 0x12, 0x02)
    for start in (0x00, 0x0F):
        lines.out(0x3C7, start)
        for _ in range(3):
            lines.in_(0x3C9)
    lines.indexed(0x3C4, 7, 0x00)
    write_latches(lines)


SCRIPTS = (
    *(
        Script(f"cirrus-banks-{size}", (f"cirrus-vga,addr=02.0,vgamem_mb={size}",), _banks(4 << 20))
        for size in (4, 8, 16)
    ),
    Script("isa-cirrus-banks", ("isa-cirrus-vga",), _banks(2 << 20)),
    Script("cirrus-first-end", ON_PCI, _first_end),
    Script("cirrus-kept-by-reset", ON_PCI, _kept_by_reset),
    Script("cirrus-registers", ON_PCI, _registers),
    Script("cirrus-memory", ON_PCI, _memory),
    Script("cirrus-copies", ON_PCI, _copies),
    Script("cirrus-patterns", ON_PCI, _patterns),
    Script("cirrus-from-system", ON_PCI, _from_system),
    Script("cirrus-in-the-window", ON_PCI, _in_the_window),
    Script("cirrus-random", ON_PCI, _random_ops("cirrus-random", 6000, True)),
    Script("isa-cirrus-random", ("isa-cirrus-vga",), _random_ops("isa-cirrus-random", 3000, False)),
)
