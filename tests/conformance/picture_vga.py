"""Scripts that show what the VGA's own modes look like, where QEMU and the chip agree."""

from __future__ import annotations

from conformance_script import Lines, Script
from picture_modes import Mode, fill_plane, glyphs, pattern, text

UNDERLINED = 0x01
DEVICES = ("VGA,addr=02.0",)

TEXT = Mode(
    columns=80,
    lines=96,
    pitch=40,
    sr={1: 0x00, 3: 0x00, 4: 0x02},
    gr={5: 0x10, 6: 0x0E},
    ar={0x10: 0x04, 0x13: 0x08},
    cr={0x09: 0x4F, 0x14: 0x1F, 0x17: 0xA3},
)
TEXT_8 = TEXT.but(sr={1: 0x01}, ar={0x10: 0x00, 0x13: 0x00})
PLANAR = Mode(
    columns=40,
    lines=60,
    pitch=20,
    sr={1: 0x01, 3: 0x00, 4: 0x06},
    gr={5: 0x00, 6: 0x05},
    ar={0x10: 0x01},
)
CHAIN_4 = Mode(
    columns=40,
    lines=100,
    pitch=20,
    sr={1: 0x01, 4: 0x0E},
    gr={5: 0x40, 6: 0x05},
    ar={0x10: 0x41},
    cr={0x09: 0x41, 0x14: 0x40, 0x17: 0xA3},
)
MODE_X = CHAIN_4.but(sr={4: 0x06}, cr={0x14: 0x00, 0x17: 0xE3})
CGA_4 = Mode(
    columns=40,
    lines=60,
    pitch=20,
    sr={1: 0x09, 4: 0x02},
    gr={5: 0x30, 6: 0x0F},
    ar={0x10: 0x01, 0x12: 0x03},
    cr={0x09: 0xC1, 0x17: 0xA2},
)
CGA_2 = Mode(
    columns=80,
    lines=60,
    pitch=40,
    sr={1: 0x01, 4: 0x06},
    gr={5: 0x00, 6: 0x0D},
    ar={0x10: 0x01, 0x12: 0x01},
    cr={0x09: 0x41, 0x17: 0xC2},
)


def fill(lines: Lines) -> None:
    """Different patterns in all planes."""
    for plane, step in enumerate((1, 3, 11, 29)):
        fill_plane(lines, plane, pattern(0x800, step, plane))
        fill_plane(lines, plane, pattern(0x800, step + 4, plane), 0x2000)
        fill_plane(lines, plane, pattern(0x800, step + 9, plane), 0x4000)
        fill_plane(lines, plane, pattern(0x800, step + 14, plane), 0x6000)
        fill_plane(lines, plane, pattern(0x400, step + 6, plane), 0xFC00)


def cells(count: int) -> list[tuple[int, int]]:
    """Many characters and attributes; not 0xb0 to 0xbf, whose ninth dot QEMU draws otherwise."""
    codes = [place * 7 & 0xFF for place in range(count)]
    codes = [code & 0x7F if code >> 4 == 0xB else code for code in codes]
    # Not blinking, and not the attributes that the chip underlines.
    attributes = [place * 3 & 0x7F for place in range(count)]
    attributes = [each | 4 if each & 0x77 == UNDERLINED else each for each in attributes]
    return list(zip(codes, attributes, strict=True))


def graphics(name: str, mode: Mode) -> Script:
    """A script that shows the patterns in a graphics mode."""

    def build(lines: Lines) -> None:
        fill(lines)
        mode.set(lines)

    return Script(name, DEVICES, build)


def screen(name: str, mode: Mode, shown: list[tuple[int, int]] | None = None) -> Script:
    """A script that shows cells of text, with different fonts in the eight places."""

    def build(lines: Lines) -> None:
        for font in (0, 1, 3, 6):
            fill_plane(lines, 2, glyphs(font * 5), font * 0x2000)
        text(lines, cells(560) if shown is None else shown)
        mode.set(lines)

    return Script(name, DEVICES, build)


def _after_reset(lines: Lines) -> None:
    fill(lines)
    CHAIN_4.set(lines)
    lines.reset()
    PLANAR.set(lines)


BRIGHT = [(place & 0x7F, 0x80 | place * 3 & 0x7F | 0x04) for place in range(560)]
CURSOR = {0x0A: 0x0D, 0x0B: 0x0E, 0x0E: 0x00, 0x0F: 0xA5}

SCRIPTS: tuple[Script, ...] = (
    Script("vga-after-reset", DEVICES, _after_reset),
    screen("vga-text-9-dots", TEXT),
    screen("vga-text-8-dots", TEXT_8),
    screen("vga-text-40-columns", TEXT_8.but(columns=40, pitch=20, sr={1: 0x09})),
    screen("vga-text-8-lines", TEXT_8.but(cr={0x09: 0x47})),
    screen("vga-text-14-lines", TEXT_8.but(lines=84, cr={0x09: 0x4D})),
    screen("vga-text-32-lines", TEXT_8.but(cr={0x09: 0x5F})),
    screen("vga-text-1-line", TEXT_8.but(lines=6, cr={0x09: 0x40})),
    screen("vga-text-start", TEXT.but(cr={0x0D: 0x4D})),
    screen("vga-text-pitch", TEXT.but(cr={0x13: 0x1B})),
    screen("vga-text-split", TEXT_8.but(cr={0x07: 0x00, 0x09: 0x0F, 0x18: 0x2F, 0x0D: 0x50})),
    screen("vga-text-two-fonts", TEXT.but(sr={3: 0x04})),
    screen("vga-text-fonts-from-bits-4-and-5", TEXT.but(sr={3: 0x39})),
    screen("vga-text-bright-backgrounds", TEXT, BRIGHT),
    screen("vga-text-cursor", TEXT.but(cr=CURSOR)),
    screen("vga-text-cursor-block", TEXT.but(cr={**CURSOR, 0x0A: 0x00, 0x0B: 0x0F})),
    screen("vga-text-cursor-tall", TEXT.but(cr={**CURSOR, 0x0A: 0x06, 0x0B: 0x1F})),
    screen("vga-text-cursor-line", TEXT_8.but(cr={**CURSOR, 0x0A: 0x07, 0x0B: 0x07})),
    screen("vga-text-cursor-disabled", TEXT.but(cr={**CURSOR, 0x0A: 0x2D})),
    screen("vga-text-cursor-upside-down", TEXT.but(cr={**CURSOR, 0x0A: 0x0D, 0x0B: 0x03})),
    screen("vga-text-cursor-below", TEXT.but(cr={**CURSOR, 0x0A: 0x12, 0x0B: 0x14})),
    screen("vga-text-cursor-after-start", TEXT.but(cr={**CURSOR, 0x0D: 0x50})),
    screen("vga-text-palette", TEXT.but(ar={n: n * 5 & 0x3F for n in range(16)})),
    screen("vga-text-color-select", TEXT.but(ar={0x14: 0x0C})),
    screen("vga-text-color-select-4", TEXT.but(ar={0x10: 0x84, 0x14: 0x0B})),
    graphics("vga-planar", PLANAR),
    graphics("vga-planar-double-scan", PLANAR.but(cr={0x09: 0xC0})),
    graphics("vga-planar-four-scans", PLANAR.but(cr={0x09: 0x43})),
    graphics("vga-planar-half-clock", PLANAR.but(sr={1: 0x09})),
    graphics("vga-planar-two-planes", PLANAR.but(ar={0x12: 0x05})),
    graphics("vga-planar-palette", PLANAR.but(ar={n: 0x3F - n for n in range(16)})),
    graphics("vga-planar-color-select", PLANAR.but(ar={0x10: 0x81, 0x14: 0x07})),
    graphics("vga-planar-start", PLANAR.but(cr={0x0C: 0x00, 0x0D: 0x13})),
    graphics("vga-planar-pitch", PLANAR.but(cr={0x13: 0x17})),
    graphics("vga-planar-no-pitch", PLANAR.but(cr={0x13: 0x00})),
    graphics("vga-planar-split", PLANAR.but(cr={0x07: 0, 0x09: 0, 0x18: 0x1E, 0x0D: 0x50})),
    graphics("vga-planar-odd-height", PLANAR.but(lines=53, columns=33)),
    graphics("vga-chain-4", CHAIN_4),
    graphics("vga-chain-4-four-scans", CHAIN_4.but(cr={0x09: 0xC1})),
    graphics("vga-chain-4-start", CHAIN_4.but(cr={0x0D: 0x21})),
    graphics("vga-mode-x", MODE_X),
    graphics("vga-mode-x-one-scan", MODE_X.but(cr={0x09: 0x40})),
    graphics("vga-mode-x-start-and-pitch", MODE_X.but(cr={0x0D: 0x41, 0x13: 0x28})),
    graphics("vga-mode-x-split", MODE_X.but(cr={0x07: 0, 0x09: 1, 0x18: 0x31, 0x0D: 0x50})),
    graphics("vga-cga-4-colors", CGA_4),
    graphics("vga-cga-4-colors-all-planes", CGA_4.but(ar={0x12: 0x0F})),
    graphics("vga-cga-4-colors-full-clock", CGA_4.but(sr={1: 0x01})),
    graphics("vga-cga-4-colors-one-bank", CGA_4.but(cr={0x09: 0x43, 0x17: 0xA3})),
    graphics("vga-cga-2-colors", CGA_2),
    graphics("vga-mode-x-two-banks", MODE_X.but(cr={0x17: 0xE2})),
)
