"""Where the picture of a VGA is the chip's and not QEMU's."""

from __future__ import annotations

from collections.abc import Callable

from conformance_script import Lines, Script
from picture_changes import (
    black,
    every_second_line_black,
    interleaved,
    pairs_of_lines_twice,
    shifted_even_lines,
    six_bits,
    split_at,
    tall,
    upper,
    wide,
    without_columns,
)
from picture_difference import Absent, Difference
from picture_modes import fill_plane, glyphs, pattern, text
from picture_vga import (
    BRIGHT,
    CGA_2,
    CGA_4,
    CHAIN_4,
    CURSOR,
    DEVICES,
    MODE_X,
    PLANAR,
    TEXT,
    TEXT_8,
    fill,
    graphics,
    screen,
)

_NO_BYPASS = "no document: the way through 16 registers, where 5446, 4.61 has a bypass"
_HERCULES = CGA_2.but(cr={0x09: 0x43, 0x17: 0xC0})
_LINES = 96


def _cells_of_one_attribute(attribute: int) -> list[tuple[int, int]]:
    return [(place * 7 & 0x7F, attribute) for place in range(560)]


def _underlined_glyphs(lines: Lines) -> None:
    font = bytearray(glyphs())
    font[9::32] = b"\xff" * 256
    fill_plane(lines, 2, bytes(font))
    text(lines, _cells_of_one_attribute(0x01))
    TEXT_8.set(lines)


def _halves_masked(lines: Lines) -> None:
    """Every pixel as AR12 = 03 leaves it."""
    for plane, step in enumerate((1, 3, 11, 29)):
        data = bytes(byte & 0x33 for byte in pattern(0x800, step, plane))
        fill_plane(lines, plane, data)
    CHAIN_4.set(lines)


def _box_glyphs(lines: Lines) -> None:
    fill_plane(lines, 2, glyphs())
    text(lines, [(0xB0 | place & 0x0F, 0x0F) for place in range(560)])


def _blocks_joined(lines: Lines) -> None:
    _box_glyphs(lines)
    TEXT.set(lines)


def _blocks_apart(lines: Lines) -> None:
    _box_glyphs(lines)
    TEXT.but(ar={0x10: 0x00}).set(lines)


def _all_levels(lines: Lines) -> None:
    fill(lines)
    CHAIN_4.set(lines)
    lines.out(0x3C8, 0)
    for index in range(256 * 3):
        lines.out(0x3C9, index & 0x3F)


def _script(name: str, build: Callable[[Lines], None]) -> Script:
    return Script(name, DEVICES, build)


_NEVER_SET = _script("vga-never-set-off", fill)
_LEVELS = _script("vga-dac-levels", _all_levels)
_TALL_TEXT = screen("vga-text-112-lines", TEXT_8.but(lines=112))
_BLINKING = screen("vga-text-blinking", TEXT.but(ar={0x10: 0x0C}), BRIGHT)

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        _NEVER_SET,
        "none since power-on",
        "a message of its own",
        "nothing",
        "no document: there is no font yet from which it could draw",
        (_NEVER_SET,),
        black,
    ),
    Difference(
        screen("vga-screen-off", TEXT.but(sr={1: 0x20})),
        "SR1 bit 5",
        "the picture",
        "a black screen",
        "5446, 4.16: SR1 bit 5 makes BLANK# active; FreeVGA, sequencer: screen disable",
        (screen("vga-text-9-dots", TEXT),),
        black,
    ),
    Difference(
        _LEVELS,
        "DAC",
        "bit 0 of a component in both bits that 6 lack of 8",
        "even steps from black to white: the two high bits",
        "5446, 2.3.6: 256 Ki colours; 11.3: the converters are linear within 1.5 steps",
        (_LEVELS,),
        six_bits,
    ),
    Difference(
        screen("vga-text-partial-row", TEXT_8.but(lines=96, cr={0x09: 0x4D})),
        "CR9 with CR12",
        "whole rows of characters only",
        "all lines, the last row in part",
        "5446, 4.39: CR12 is a scan line; FreeVGA, display generation: vertical timing",
        (screen("vga-text-7-rows-of-14", TEXT_8.but(lines=98, cr={0x09: 0x4D})),),
        upper(96),
    ),
    Difference(
        screen("vga-text-blinking-background", TEXT.but(ar={0x10: 0x0C}), BRIGHT),
        "AR10 bit 3",
        "bright backgrounds",
        "characters that blink, here visible",
        "5446, 4.61: blinks with each 32nd vertical refresh",
        (screen("vga-text-dark", TEXT, [(code, each & 0x7F) for code, each in BRIGHT]),),
    ),
    Difference(
        _BLINKING,
        "AR10 bit 3",
        "bright backgrounds",
        "characters that blink, here hidden",
        "5446, 4.61: blinks with each 32nd vertical refresh",
        (
            screen(
                "vga-text-hidden",
                TEXT,
                [(code, (each >> 4 & 7) * 0x11) for code, each in BRIGHT],
            ),
        ),
        frame=16,
    ),
    Difference(
        screen("vga-text-cursor-hidden", TEXT.but(cr=CURSOR)),
        "CR0A",
        "a cursor that blinks by the clock",
        "a cursor that blinks by frames: 8 shown, 8 hidden",
        "no document for the rate, half of what 5446, 4.61 gives characters; QEMU's as measured",
        (screen("vga-text-9-dots", TEXT),),
        frame=8,
    ),
    Difference(
        screen("vga-text-cursor-skew", TEXT.but(cr={**CURSOR, 0x0B: 0x4E})),
        "CR0B bits 6-5",
        "the cursor at its address",
        "the cursor 2 characters further",
        "5446, 4.32: delay in character clocks; FreeVGA, CRTC 0b: added to the location",
        (screen("vga-text-cursor-2-further", TEXT.but(cr={**CURSOR, 0x0F: CURSOR[0x0F] + 2})),),
    ),
    Difference(
        screen("vga-text-underlined", TEXT_8.but(cr={0x14: 0x09}), _cells_of_one_attribute(0x01)),
        "CR14 bits 4-0",
        "characters without a line",
        "characters of attribute 01 underlined",
        "5446, 4.41, and 4.61 for MDA attributes; FreeVGA, attribute 10: MONO does nothing",
        (_script("vga-text-line-in-glyphs", _underlined_glyphs),),
    ),
    Difference(
        _script("vga-text-line-graphics", _blocks_joined),
        "AR10 bit 2",
        "the eighth dot again from b0 to df",
        "the eighth dot again from c0 to df",
        "5446, 4.61: codes c0 to df",
        (_script("vga-text-no-line-graphics", _blocks_apart),),
    ),
    Difference(
        screen("vga-text-planes", TEXT_8.but(ar={0x12: 0x05})),
        "AR12 in text",
        "all planes",
        "the planes that are enabled",
        "5446, 4.63: what a clear bit leaves out is 0 where a palette register is selected",
        (screen("vga-text-5-in-palette", TEXT_8.but(ar={n: n & 5 for n in range(16)})),),
    ),
    Difference(
        screen("vga-text-double-scan", TEXT_8.but(cr={0x09: 0xCF})),
        "CR9 bit 7 in text",
        "each line once",
        "each line twice",
        "5446, 4.30: every scan line is displayed twice",
        (screen("vga-text-48-lines", TEXT_8.but(lines=48)),),
        tall,
    ),
    Difference(
        screen("vga-text-half-clock-9-dots", TEXT.but(columns=40, sr={1: 0x08})),
        "SR1 bits 3 and 0",
        "characters of 16 dots",
        "characters of 18 dots",
        "5446, 4.16: DCLK halved, and divided by nine for a character",
        (screen("vga-text-9-dots-40", TEXT.but(columns=40)),),
        wide,
    ),
    Difference(
        screen("vga-text-row-scan-address", TEXT_8.but(cr={0x17: 0xA2})),
        "CR17 bit 0 in text",
        "one address for all lines of a row",
        "odd lines of a row from an address with line 13 set, here empty",
        "5446, 4.44: row scan bit 0 put in, whatever the mode; FreeVGA, CRTC 17: as bit 13",
        (screen("vga-text-8-dots", TEXT_8),),
        every_second_line_black,
    ),
    Difference(
        screen("vga-text-split-in-a-row", TEXT_8.but(cr={0x07: 0, 0x09: 0x0F, 0x18: 0x24})),
        "CR18 in text",
        "a split between rows of characters",
        "a split after any line",
        "5446, 4.45; FreeVGA, CRTC 18: address and row scan become 0 at that scan line",
        (_TALL_TEXT,),
        lambda picture: split_at(0x25)(picture[:_LINES]),
    ),
    Difference(
        screen("vga-text-preset-row", TEXT_8.but(cr={0x08: 0x05})),
        "CR8 bits 4-0",
        "the first row whole",
        "the first row from its line 5",
        "5446, 4.29: the scan line where the first row begins",
        (_TALL_TEXT,),
        lambda picture: picture[5 : 5 + _LINES],
    ),
    Difference(
        screen("vga-text-panned", TEXT.but(ar={0x13: 0x03})),
        "AR13 in text",
        "the picture in its place",
        "the picture 4 dots to the left",
        "5446, 4.64: shifts in text and graphics, a table for 9 dots, 8 dots, mode 13",
        (screen("vga-text-81-columns", TEXT.but(columns=81)),),
        without_columns(4, 720),
    ),
    Difference(
        graphics("vga-planar-panned", PLANAR.but(ar={0x13: 0x05})),
        "AR13",
        "the picture in its place",
        "the picture 5 dots to the left",
        "5446, 4.64: shifts in text and graphics, a table for 9 dots, 8 dots, mode 13",
        (graphics("vga-planar-41-columns", PLANAR.but(columns=41)),),
        without_columns(5, 320),
    ),
    Difference(
        graphics("vga-mode-x-panned", MODE_X.but(ar={0x13: 0x04})),
        "AR13",
        "the picture in its place",
        "the picture 2 pixels to the left",
        "5446, 4.64: shifts in text and graphics, a table for 9 dots, 8 dots, mode 13",
        (graphics("vga-mode-x-41-columns", MODE_X.but(columns=41)),),
        without_columns(4, 320),
    ),
    Difference(
        graphics("vga-planar-byte-panning", PLANAR.but(cr={0x08: 0x40})),
        "CR8 bits 6-5",
        "the picture in its place",
        "the picture 2 characters to the left",
        "5446, 4.29: 8 pixels a step; FreeVGA, CRTC 08: added to the start address",
        (graphics("vga-planar-start-2", PLANAR.but(cr={0x0D: 0x02})),),
    ),
    Difference(
        graphics("vga-planar-wraps", PLANAR.but(cr={0x0C: 0xFD, 0x0D: 0x08})),
        "CR0C, CR0D",
        "the memory behind 64 Ki addresses",
        "address 0 after 0xffff",
        "5446, 8.32: a VGA's address counter has 16 bits",
        (
            graphics(
                "vga-planar-split-at-the-end",
                PLANAR.but(cr={0x07: 0, 0x09: 0, 0x18: 0x12, 0x0C: 0xFD, 0x0D: 0x08}),
            ),
        ),
    ),
    Difference(
        graphics("vga-chain-4-planes", CHAIN_4.but(ar={0x12: 0x03})),
        "AR12 with 256 colours",
        "the pixel as it is",
        "each half of the pixel through AR12: 4f becomes 03",
        _NO_BYPASS,
        (_script("vga-chain-4-halves-masked", _halves_masked),),
    ),
    Difference(
        graphics("vga-chain-4-palette", CHAIN_4.but(ar={n: n & 3 for n in range(16)})),
        "AR0 to AR0F with 256 colours",
        "the pixel as it is",
        "each half of the pixel through the palette",
        _NO_BYPASS,
        (_script("vga-chain-4-halves-masked", _halves_masked),),
    ),
    Difference(
        graphics("vga-mode-x-half-clock", MODE_X.but(sr={1: 0x09})),
        "SR1 bit 3 with 256 colours",
        "pixels of two dots",
        "pixels of four dots",
        "5446, 4.16: DCLK halved, and divided by nine for a character",
        (graphics("vga-mode-x", MODE_X),),
        wide,
    ),
    Difference(
        graphics("vga-planar-split-in-a-row", PLANAR.but(cr={0x07: 0, 0x09: 0x03, 0x18: 0x1D})),
        "CR18 with CR9",
        "below the split the rest of the row's repetitions",
        "a new row below the split",
        "5446, 4.45; FreeVGA, CRTC 18: address and row scan become 0 at that scan line",
        (graphics("vga-planar-four-scans", PLANAR.but(cr={0x09: 0x43})),),
        split_at(0x1E),
    ),
    Difference(
        graphics("vga-cga-4-colors-planes", CGA_4.but(ar={0x12: 0x05})),
        "AR12 with GR5 bit 5",
        "the memory planes that are enabled",
        "the bits of a pixel that are enabled",
        "5446, 4.63: what a clear bit leaves out is 0 where a palette register is selected",
        (
            graphics(
                "vga-cga-4-colors-5-in-palette",
                CGA_4.but(ar={0x12: 0x0F, **{n: n & 5 for n in range(16)}}),
            ),
        ),
    ),
    Difference(
        graphics("vga-cga-2-colors-four-scans", CGA_2.but(cr={0x09: 0x43})),
        "CR9 bits 4-0 with CR17 bit 0",
        "rows of two lines",
        "rows of four lines, two of each bank",
        "5446, 4.30: scan lines of a cell, 4.44: the row scan counter's bit 0",
        (graphics("vga-cga-2-colors", CGA_2),),
        pairs_of_lines_twice,
    ),
    Difference(
        graphics("vga-planar-double-words", PLANAR.but(cr={0x09: 0x41, 0x14: 0x40, 0x17: 0xE2})),
        "CR14 bit 6 with CR17 bit 0",
        "the row scan bit on address line 13 of words or bytes",
        "the row scan bit on address line 13 of double words, behind which it is empty here",
        "5446, 4.41: the counter turned left by two; FreeVGA, CRTC 17: bit 13 of the output",
        (graphics("vga-planar-two-scans", PLANAR.but(cr={0x09: 0x41})),),
        every_second_line_black,
    ),
    Difference(
        graphics(
            "vga-planar-carry-within-a-line",
            PLANAR.but(cr={0x09: 0x41, 0x0C: 0x0F, 0x0D: 0xF0, 0x17: 0xA2}),
        ),
        "CR17 bits 1 and 0",
        "the row scan bits put in where a line begins",
        "the row scan bits put into each address",
        "FreeVGA, CRTC 17: a multiplexer at the counter's output",
        (graphics("vga-planar-two-scans", PLANAR.but(cr={0x09: 0x41})),),
        shifted_even_lines,
    ),
    Difference(
        screen("vga-text-one-cell", TEXT_8.but(columns=1, lines=16)),
        "CR1 with CR12",
        "no text of a single cell",
        "the cell",
        "5446, 4.22: CR1 is the characters less one",
        (screen("vga-text-two-cells", TEXT_8.but(columns=2, lines=16)),),
        without_columns(0, 8),
    ),
    Difference(
        graphics("vga-hercules", _HERCULES),
        "CR17 bits 1 and 0",
        "both row scan bits on address line 13",
        "the second row scan bit on address line 14",
        "5446, 4.44: row scan bit 1 for address bit 14",
        tuple(
            graphics(
                f"vga-hercules-bank-{bank}",
                CGA_2.but(lines=15, cr={0x09: 0x40, 0x0C: bank * 0x20, 0x17: 0xC3}),
            )
            for bank in range(4)
        ),
        interleaved,
    ),
)

ABSENT: tuple[Absent, ...] = (
    Absent(
        "CR2, CR3, CR15, CR16",
        "blanking and a skew inside the picture",
        "the whole picture",
        "FreeVGA, CRTC 02, 03",
    ),
    Absent(
        "CR0, CR4, CR5, CR6, CR10, CR11",
        "the position on the monitor",
        "no border",
        "FreeVGA, display generation",
    ),
    Absent("AR11", "the colour of the border", "no border", "5446, 4.62"),
    Absent("3c0 bit 5 clear", "a screen in the border's colour", "a black one", "5446, 4.59"),
    Absent(
        "AR10 bit 6",
        "two dots of any mode make a pixel of 8 bits",
        "GR5 bit 6 alone makes pixels of 8 bits",
        "FreeVGA, attribute 10",
    ),
    Absent(
        "AR10 bit 0",
        "graphics or text in the attribute controller",
        "GR6 bit 0 alone says",
        "5446, 4.61",
    ),
    Absent(
        "AR13 bit 3 with 8 dots",
        "one dot to the right, with 256 colours 3 pixels to the left",
        "AR13 bits 2-0 alone say",
        "5446, 4.64",
    ),
    Absent(
        "SR1 bits 2 and 4",
        "shift registers loaded every second or fourth character",
        "every",
        "5446, 4.16",
    ),
    Absent("CR17 bit 2", "scan lines counted in twos", "counted one by one", "5446, 4.44"),
    Absent(
        "CR17 bit 3, CR14 bit 5",
        "slower address counter",
        "one address per character",
        "5446, 4.44, 4.41",
    ),
    Absent(
        "CR17 bit 5 clear, bit 6 clear",
        "addresses of words that wrap after 14 bits",
        "after 16 bits",
        "5446, 4.44",
    ),
    Absent("MISC bits 3-2", "the dot clock", "no clock", "FreeVGA, external 3c2"),
    Absent("3c6", "a mask over the DAC's index", "no such port, as in QEMU", "5446, 4.9"),
)
