"""Scripts that show the modes of Bochs' VBE extensions."""

from __future__ import annotations

from dataclasses import dataclass

from conformance_script import Lines, Script
from picture_linear import fill_at, map_card
from picture_modes import colors, show


@dataclass(frozen=True)
class Screen:
    """A picture script of a DISPI mode."""

    name: str
    bits: int
    width: int = 64
    height: int = 40
    flags: int = 0xC1
    virtual: int = 0
    x: int = 0
    y: int = 0
    bank: int = 0
    wide_dac: bool = False

    def script(self) -> Script:
        return Script(f"vbe-{self.name}", ("VGA,addr=02.0,vgamem_mb=1",), self._build)

    def _build(self, lines: Lines) -> None:
        map_card(lines)
        fill_at(lines, 0, 0x1000, 0x2000, 0x3000, 0x8000, 0xFE000, 0xFF000)
        for index, value in ((1, self.width), (2, self.height), (3, self.bits)):
            lines.dispi(index, value)
        for index in range(16):
            lines.attribute(index, index)
        for index, value in ((0x10, 0x01), (0x12, 0x0F), (0x14, 0x00)):
            lines.attribute(index, value)
        lines.dispi(4, self.flags)
        for index, value in ((6, self.virtual), (8, self.x), (9, self.y), (5, self.bank)):
            lines.dispi(index, value)
        colors(lines)
        if self.wide_dac:
            lines.out(0x3C8, 0)
            for level in range(768):
                lines.out(0x3C9, level * 7 & 0xFF)
        show(lines)


SCREENS = (
    *(Screen(f"{bits}-bits", bits) for bits in (4, 8, 16, 24, 32)),
    *(Screen(f"{bits}-bits-virtual", bits, virtual=96, x=5, y=3) for bits in (4, 8, 16, 24, 32)),
    *(Screen(f"{bits}-bits-odd-width", bits, width=61, virtual=77) for bits in (4, 8, 16, 24, 32)),
    Screen("8-bit-dac", 8, flags=0xE1, wide_dac=True),
    Screen("bank-beyond-memory", 8, bank=0x123),
    Screen("start-beyond-memory", 8, virtual=128, x=9000, y=11000),
    Screen("start-at-the-last-lines", 8, virtual=1024, y=984),
    Screen("start-beyond-the-last-lines", 8, virtual=1024, x=17, y=990),
    Screen("impossible-depth", 13),
    Screen("height-beyond-memory", 32, width=1024, height=4000),
)

SCRIPTS: tuple[Script, ...] = tuple(screen.script() for screen in SCREENS)
