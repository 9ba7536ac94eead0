"""Scripts about the VGA: registers, window, VBE, the register BAR."""

from __future__ import annotations

import random
from collections.abc import Callable

from conformance_script import Lines, Script, seeded

WINDOW = 0xA0000
PORTS = (0x3B4, 0x3B5, 0x3BA, *range(0x3C0, 0x3D0), 0x3D4, 0x3D5, 0x3DA)
LFB = 0xE000_0000
REGISTERS = 0xFEB0_0000
ON_PCI = ("VGA,addr=02.0",)


def map_bars(lines: Lines) -> None:
    """Video memory at LFB, registers at REGISTERS."""
    lines.config_write(2, 0x10, LFB)
    lines.config_write(2, 0x18, REGISTERS)
    lines.config_write(2, 0x04, 3, 2)


def _registers(lines: Lines) -> None:
    """Every index of every group with patterns, in colour and monochrome; the palette."""
    for misc in (0x00, 0x01, 0x67, 0xFF):
        lines.out(0x3C2, misc)
        lines.in_(0x3CC)
        for port, count in ((0x3C4, 10), (0x3CE, 18), (0x3D4, 40), (0x3B4, 40)):
            for index in range(count):
                for value in (0xFF, 0x00, 0x5A):
                    lines.out(port, index)
                    lines.out(port + 1, value)
                    lines.in_(port)
                    lines.in_(port + 1)
                lines.indexed(port, index, 0xA5)
                lines.in_(port, 2)
        for index in range(0x40):
            lines.attribute(index, 0xFF if index & 1 else 0x3C)
            lines.in_(0x3C0)
            lines.in_(0x3C1)
    for start in (0, 0x10, 0xFF):
        lines.out(0x3C8, start)
        for value in range(24):
            lines.out(0x3C9, value * 11 & 0xFF)
        lines.in_(0x3C7)
        lines.in_(0x3C8)
        lines.out(0x3C7, start)
        for _ in range(10):
            lines.in_(0x3C9)
            lines.in_(0x3C7)
    for port in range(0x3B0, 0x3E0):
        for size in (1, 2, 4):
            lines.in_(port, size)


def _protection(lines: Lines) -> None:
    """CR11 bit 7 protects CR0 to CR7, but for the line compare bit of CR7."""
    lines.out(0x3C2, 1)
    for protect in (0x80, 0x00):
        lines.indexed(0x3D4, 0x11, protect)
        for index in range(0x19):
            lines.indexed(0x3D4, index, (0x3F if index != 0x11 else protect))
            lines.in_(0x3D5)


def set_planes(lines: Lines, sequencer: int, graphics: int, mode: int, mask: int = 0xFF) -> None:
    """SR4, GR6, GR5 and GR8, with every plane open."""
    lines.indexed(0x3C4, 2, 0x0F)
    lines.indexed(0x3C4, 4, sequencer)
    lines.indexed(0x3CE, 6, graphics)
    lines.indexed(0x3CE, 5, mode)
    lines.indexed(0x3CE, 8, mask)


def _window(lines: Lines) -> None:
    """All write modes, both read modes, all maps and addressings, all access sizes."""
    rng = seeded("window")
    for sequencer in (0x06, 0x0E, 0x02, 0x0A):
        for graphics in (0x01, 0x05, 0x09, 0x0D):
            for mode in (0x00, 0x01, 0x02, 0x03, 0x08, 0x0B, 0x10, 0x1A):
                set_planes(lines, sequencer, graphics, mode, rng.choice((0xFF, 0xFF, 0x3C)))
                for index in (0, 1, 2, 3, 4, 7):
                    lines.indexed(0x3CE, index, rng.randrange(256))
                lines.indexed(0x3C4, 2, rng.randrange(16))
                _touch_window(lines, rng, 12)


def _touch_window(lines: Lines, rng: random.Random, count: int) -> None:
    for _ in range(count):
        address = WINDOW + rng.choice((0, 0x10000, 0x18000, 0xFFF0)) + rng.randrange(24)
        size = rng.choice((1, 1, 1, 2, 4, 8))
        lines.store(address, rng.randrange(1 << (8 * size)), size)
        if rng.random() < 0.4:
            lines.load(WINDOW + rng.randrange(64), rng.choice((1, 2, 4, 8)))
        if rng.random() < 0.1:
            lines.write(address, rng.randbytes(rng.randrange(1, 20)))
            lines.read(address - rng.randrange(3), rng.randrange(1, 30))


def _window_edges(lines: Lines) -> None:
    """Accesses that cross from RAM into the window, pages within it, and out of it again."""
    set_planes(lines, 0x06, 0x05, 0x00)
    for edge in (0xA0000, 0xA1000, 0xB0000):
        for size in (2, 4, 8):
            for before in range(1, size):
                lines.store(edge - before, 0x8877665544332211 & (1 << (8 * size)) - 1, size)
                lines.read(edge - 8, 16)
                lines.load(edge - before, size)
    lines.write(0x9FFF0, bytes(range(1, 33)))
    lines.read(0x9FFF0, 32)
    lines.memset(0x9FF00, 0x200, 0xEE)
    lines.read(0x9FF00, 0x200)


def _random_ops(name: str, count: int, lfb: bool) -> Callable[[Lines], None]:
    """Legal and illegal alike: ports, indices, sizes and addresses at random."""

    def build(lines: Lines) -> None:
        rng = seeded(name)
        if lfb:
            map_bars(lines)
        for _ in range(count):
            _random_op(lines, rng, lfb)

    return build


def _random_op(lines: Lines, rng: random.Random, lfb: bool) -> None:
    what = rng.random()
    size = rng.choice((1, 1, 1, 1, 2, 4))
    if what < 0.25:
        port = rng.choice((0x3C4, 0x3CE, 0x3D4))
        lines.indexed(port, rng.randrange(0x20), rng.randrange(256))
    elif what < 0.35:
        lines.out(rng.choice(PORTS), rng.randrange(1 << (8 * size)), size)
    elif what < 0.45:
        lines.in_(rng.choice(PORTS), size)
    elif what < 0.48:
        lines.attribute(rng.randrange(0x40), rng.randrange(256))
    elif lfb and what < 0.6:
        address = LFB + rng.choice((0, 0x40000, 0xFFFF00)) + rng.randrange(0x100 - 8)
        if rng.random() < 0.6:
            lines.store(address, rng.randrange(1 << (8 * size)), size)
        else:
            lines.load(address, size)
    elif lfb and what < 0.65:
        offset = rng.choice((0, 0x3F0, 0x410, 0x500, 0x5FC)) + rng.randrange(0x20)
        lines.load(REGISTERS + offset, size)
    elif what < 0.85:
        address = WINDOW + rng.randrange(0x20000 - 8)
        lines.store(address, rng.randrange(1 << (8 * size)), size)
    else:
        lines.load(WINDOW + rng.randrange(0x20000 - 8), size)


def _vbe(lines: Lines) -> None:
    """Bochs' VBE extensions at their ports: ids, capabilities, geometries, banks."""
    map_bars(lines)
    for identity in (0xB0C0, 0xB0C4, 0xB0C5, 0xB0C6, 0x1234):
        lines.dispi(0, identity)
        lines.in_(0x1D0, 2)
    for port in (0x1CE, 0x1CF, 0x1D0):
        for size in (1, 2, 4):
            lines.in_(port, size)
    sizes = ((640, 480), (801, 600), (1, 1), (0, 0), (1024, 768), (16001, 13000), (65535, 65535))
    for enable in (0x01, 0x41, 0xC1, 0x02, 0x03, 0x00, 0x61):
        for bits in (4, 8, 15, 24, 32, 7):
            for width, height in sizes:
                lines.dispi(4, 0)
                lines.dispi(1, width)
                lines.dispi(2, height)
                lines.dispi(3, bits)
                lines.dispi(4, enable)
                lines.dispi(6, width + 96)
                lines.dispi(8, 5)
                lines.dispi(9, 7)
                lines.dispi(5, 3)
                for index in range(12):
                    lines.out(0x1CE, index, 2)
                    lines.in_(0x1D0, 2)
    lines.dispi(4, 0)
    for index, value in ((1, 640), (2, 480), (3, 8), (4, 0x41)):
        lines.dispi(index, value)
    for bank in (0, 1, 5, 255, 256):
        lines.dispi(5, bank)
        lines.store(WINDOW + 0x123, 0x40 | bank & 0x3F)
        lines.load(LFB + 0x10000 * (bank & 0xFF) + 0x123)
        lines.load(WINDOW + 0x123, 4)


def _bar2(lines: Lines) -> None:
    """The registers in memory: EDID, ports, DISPI, QEMU's own, the holes; all sizes."""
    map_bars(lines)
    lines.read(REGISTERS, 0x180)
    for offset in range(0x3F0, 0x620, 2):
        for size in (1, 2, 4, 8):
            lines.load(REGISTERS + offset, size)
    for value in (0xBEBEBEBE, 0x1E1E1E1E, 0x12345678, 0):
        lines.store(REGISTERS + 0x604, value, 4)
        lines.load(REGISTERS + 0x604, 4)
    for value in (0x1E, 0xBE):
        lines.store(REGISTERS + 0x604, value, 1)
        lines.store(REGISTERS + 0x606, value, 2)
        lines.load(REGISTERS + 0x604, 4)
    lines.store(REGISTERS + 0x402, 0x01)
    for index in range(8):
        lines.store(REGISTERS + 0x404, index | 0x0500 | index << 8, 2)
        lines.load(REGISTERS + 0x404, 2)
        lines.store(REGISTERS + 0x40E, index | 0x3C00, 2)
        lines.load(REGISTERS + 0x40E, 4)
        lines.store(REGISTERS + 0x414, index | 0x4400, 2)
        lines.load(REGISTERS + 0x414, 2)
    for index, value in ((1, 800), (2, 600), (3, 16), (4, 0x41), (6, 1000), (8, 3)):
        lines.store(REGISTERS + 0x500 + 2 * index, value, 2)
        lines.read(REGISTERS + 0x500, 0x18)
    lines.store(REGISTERS + 0x500 + 2, 0x0258_0320, 4)
    lines.read(REGISTERS + 0x500, 0x18)
    lines.read(REGISTERS + 0xFF0, 16)


def write_latches(lines: Lines) -> None:
    """Write the latches, as they stand, to memory, and look at all four planes."""
    set_planes(lines, 0x06, 0x05, 0x01)
    lines.store(WINDOW + 0x20, 0xFF)
    lines.indexed(0x3CE, 5, 0x00)
    for plane in range(4):
        lines.indexed(0x3CE, 4, plane)
        lines.load(WINDOW + 0x20)


def _kept_by_reset(lines: Lines) -> None:
    """Kept by a reset: memory and the latches."""
    lines.out(0x3C2, 0x67)
    for plane, value in enumerate((0x12, 0x34, 0x56, 0x78)):
        set_planes(lines, 0x06, 0x05, 0x00)
        lines.indexed(0x3C4, 2, 1 << plane)
        lines.store(WINDOW + 0x10, value)
    lines.load(WINDOW + 0x10)
    lines.reset()
    lines.load(WINDOW + 0x10)
    lines.out(0x3C2, 0x67)
    write_latches(lines)


SCRIPTS = (
    Script("vga-kept-by-reset", ON_PCI, _kept_by_reset),
    Script("isa-vga-kept-by-reset", ("isa-vga",), _kept_by_reset),
    Script("vga-registers", ON_PCI, _registers),
    Script("vga-protection", ON_PCI, _protection),
    Script("vga-window", ON_PCI, _window),
    Script("vga-window-edges", ON_PCI, _window_edges),
    Script("vga-vbe", ON_PCI, _vbe),
    Script("vga-bar2", ON_PCI, _bar2),
    Script("vga-random", ON_PCI, _random_ops("vga-random", 8000, True)),
    Script("isa-vga-registers", ("isa-vga",), _registers),
    Script("isa-vga-random", ("isa-vga",), _random_ops("isa-vga-random", 4000, False)),
)
