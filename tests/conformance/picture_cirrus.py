"""Scripts that show what the Cirrus adds to a VGA's picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conformance_script import Lines, Script
from picture_linear import fill_at, map_card
from picture_modes import Mode

PACKED = Mode(
    columns=8,
    lines=48,
    pitch=32,
    sr={1: 0x01, 4: 0x0E},
    gr={5: 0x40, 6: 0x05},
    ar={0x10: 0x01},
)
PLANAR = PACKED.but(gr={5: 0x00, 6: 0x05})
_PALETTE = PACKED.but(ar={**{n: n & 3 for n in range(16)}, 0x10: 0x41, 0x12: 0x03})
"""The attribute controller does not stand in the way of 256 colours."""
BIT_15, BIT_16, BIT_19 = 0x20000, 0x40000, 0x200000
BANKS = (0x8000, 0x10000, 0x18000)
"""Where address lines 13 and 14 lead."""
WRAPPING = {0x0C: 0xFF, 0x0D: 0x80, 0x1B: 0x0D, 0x1D: 0x80}
"""The picture begins 512 bytes before the end of 4 MiB."""


@dataclass(frozen=True)
class Cursor:
    """A hardware cursor of two colours."""

    x: int
    y: int
    large: bool = False
    pattern: int = 0x3C

    def set(self, lines: Lines) -> None:
        lines.indexed(0x3C4, 0x12, 0x02)
        for index, levels in ((0, (0x33, 0x04, 0x3F)), (15, (0x08, 0x37, 0x00))):
            lines.out(0x3C8, index)
            for level in levels:
                lines.out(0x3C9, level)
        lines.indexed(0x3C4, 0x13, self.pattern)
        lines.indexed(0x3C4, 0x10 | (self.x & 7) << 5, self.x >> 3)
        lines.indexed(0x3C4, 0x11 | (self.y & 7) << 5, self.y >> 3)
        lines.indexed(0x3C4, 0x12, 0x05 if self.large else 0x01)


@dataclass(frozen=True)
class Screen:
    """A picture script of a Cirrus."""

    name: str
    mode: Mode = PACKED
    sr7: int = 0x01
    cr: Mapping[int, int] = field(default_factory=dict)
    hidden_dac: int = 0x00
    cursor: Cursor | None = None
    memory: int = 4
    """MiB."""
    filled: tuple[int, ...] = ()
    """Further places in memory with something in them."""

    def script(self) -> Script:
        card = f"cirrus-vga,addr=02.0,vgamem_mb={self.memory}"
        return Script(f"cirrus-{self.name}", (card,), self._build)

    def _build(self, lines: Lines) -> None:
        map_card(lines)
        lines.out(0x3C2, 0x67)
        for index, value in ((0x06, 0x12), (0x07, 0x01), (0x02, 0x0F), (0x04, 0x0E)):
            lines.indexed(0x3C4, index, value)
        for index, value in ((0x05, 0x00), (0x06, 0x05), (0x08, 0xFF), (0x0B, 0x00)):
            lines.indexed(0x3CE, index, value)
        last = (self.memory << 20) - 0x1000
        fill_at(lines, 0, BIT_15, BIT_16, 0x80000, 0x100000, BIT_19, 0x3FC000, 0x3FF000, last)
        fill_at(lines, *self.filled)
        lines.indexed(0x3C4, 0x07, self.sr7)
        self.mode.set(lines)
        for index, value in self.cr.items():
            lines.indexed(0x3D4, index, value)
        lines.in_(0x3C8)
        for _ in range(4):
            lines.in_(0x3C6)
        lines.out(0x3C6, self.hidden_dac)
        if self.cursor:
            self.cursor.set(lines)


SCREENS = (
    Screen("8-bits"),
    Screen("16-bits", sr7=0x07, hidden_dac=0xC1),
    Screen("16-bits-double-clock", sr7=0x03, hidden_dac=0xC1),
    Screen("24-bits", sr7=0x05),
    Screen("32-bits", sr7=0x09),
    Screen("unknown-depth", sr7=0x0B),
    Screen("planar", PLANAR, sr7=0x00),
    Screen("planar-start-bit-16", PLANAR, sr7=0x00, cr={0x1B: 0x03}),
    Screen("planar-start-bit-16-without-wrap-bit", PLANAR, sr7=0x00, cr={0x1B: 0x01}),
    Screen("planar-start-bits-17-and-18", PLANAR, sr7=0x00, cr={0x1B: 0x06}),
    Screen("planar-start-bit-19", PLANAR, sr7=0x00, cr={0x1D: 0x80}),
    Screen("planar-offset-bit-8", PLANAR, sr7=0x00, cr={0x13: 0x00, 0x1B: 0x12}),
    Screen("planar-wraps", PLANAR, sr7=0x00, cr=WRAPPING),
    Screen("interlaced", cr={0x1A: 0x01}),
    Screen("planar-interlaced", PLANAR, sr7=0x00, cr={0x1A: 0x01}),
    Screen("overlay-bits", cr={0x1A: 0x0E, 0x1D: 0x7F}),
    Screen("256-colours-of-a-vga-start-bit-16", sr7=0x00, cr={0x1B: 0x03}),
    Screen("planar-in-extended-mode", PLANAR),
    Screen("cga-in-extended-mode", PACKED.but(gr={5: 0x20, 6: 0x05})),
    Screen("8-bits-start", cr={0x0D: 0x05, 0x1B: 0x02, 0x1D: 0x80}),
    Screen("8-bits-wraps", cr=WRAPPING),
    Screen("8-bits-wraps-not-in-8-mib", cr=WRAPPING, memory=8),
    Screen("24-bits-wraps", sr7=0x05, cr=WRAPPING),
    Screen("32-bits-in-16-mib", sr7=0x09, cr=WRAPPING, memory=16),
    Screen("8-bits-split", cr={0x07: 0x00, 0x09: 0x00, 0x18: 20}),
    Screen("8-bits-double-scan", cr={0x09: 0xC1}),
    Screen("8-bits-half-clock", PACKED.but(sr={1: 0x09, 4: 0x0E})),
    Screen("8-bits-palette", _PALETTE),
    Screen("256-colours-of-a-vga-palette", _PALETTE, sr7=0x00),
    Screen("8-bits-row-scan-address", cr={0x09: 0x41, 0x17: 0xE2}, filled=BANKS),
    Screen("8-bits-cursor", cursor=Cursor(7, 9)),
    Screen("8-bits-large-cursor", cursor=Cursor(3, 5, large=True)),
    Screen("cursor-over-the-edges", cursor=Cursor(50, 30, large=True)),
    Screen("cursor-beyond-the-edges", cursor=Cursor(64, 48)),
    Screen("cursor-far-beyond", cursor=Cursor(2047, 2047)),
    Screen("cursor-pattern-in-16-mib", cursor=Cursor(1, 1, pattern=0x35), memory=16),
    Screen("24-bits-cursor", sr7=0x05, cursor=Cursor(20, 10)),
    Screen("32-bits-cursor", sr7=0x09, cursor=Cursor(20, 10, large=True)),
    Screen("planar-cursor", PLANAR, sr7=0x00, cursor=Cursor(20, 10)),
)

SCRIPTS: tuple[Script, ...] = tuple(screen.script() for screen in SCREENS)
