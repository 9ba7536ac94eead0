"""Text screens, dot by dot, with glyphs uploaded for the purpose."""

from __future__ import annotations

import pytest
from vga_programs import (
    dots,
    outb,
    pixels,
    put_cell,
    put_glyph,
    set_ar,
    set_cr,
    set_gr,
    set_sr,
    show_text,
    small_vga,
)

from coalesced.devices.vga import Vga

STEP = (0b10000001, 0b01111110)
"""A glyph of two lines, given to character 'A' (0x41)."""


def text_vga(columns: int = 2, rows: int = 1, *, glyph_lines: int = 2) -> Vga:
    vga = small_vga()
    show_text(vga, columns, rows, glyph_lines=glyph_lines)
    put_glyph(vga, 0x41, STEP)
    return vga


def test_glyph_in_its_colours() -> None:
    vga = text_vga()
    put_cell(vga, 0, 0x41, 0x2E)
    put_cell(vga, 1, 0x20, 0x50)
    assert pixels(vga) == [
        dots("#......#", on=14, off=2) + [5] * 8,
        dots(".######.", on=14, off=2) + [5] * 8,
    ]


def test_ninth_dot_extends_box_drawing_only() -> None:
    vga = text_vga(4)
    set_sr(vga, 1, 0x00)
    set_ar(vga, 0x13, 0x08)
    for position, character in enumerate((0xBF, 0xC0, 0xDF, 0xE0)):
        put_cell(vga, position, character, 0x07)
        put_glyph(vga, character, (0xFF, 0x00))
    assert pixels(vga)[0] == dots("########." * 4, on=7, off=0)
    set_ar(vga, 0x10, 0x04)
    lit = dots("########." + "#" * 18 + "########.", on=7, off=0)
    assert pixels(vga) == [lit, [0] * 36]


def test_half_dot_clock_doubles_dots() -> None:
    vga = text_vga(1)
    put_cell(vga, 0, 0x41, 0x07)
    set_sr(vga, 1, 0x09)
    assert pixels(vga)[0] == dots("##............##", on=7, off=0)
    set_sr(vga, 1, 0x08)
    set_ar(vga, 0x13, 0x08)
    assert pixels(vga)[0] == dots("##............##..", on=7, off=0)


@pytest.mark.parametrize(
    ("select", "font_b", "font_a"),
    [
        (0x00, 0, 0),
        (0x01, 2, 0),
        (0x10, 1, 0),
        (0x13, 7, 0),
        (0x04, 0, 2),
        (0x28, 0, 5),
        (0x3F, 7, 7),
    ],
)
def test_attribute_bit_3_chooses_the_font(select: int, font_b: int, font_a: int) -> None:
    vga = text_vga()
    put_cell(vga, 0, 0x42, 0x07)
    put_cell(vga, 1, 0x42, 0x0F)
    set_sr(vga, 3, select)
    put_glyph(vga, 0x42, (0xF0,), font=font_b)
    put_glyph(vga, 0x42, (0xF0,), font=font_a)
    for font in range(8):
        if font not in {font_a, font_b}:
            put_glyph(vga, 0x42, (0x3C,), font=font)
    expected = dots("####....", on=7, off=0) + dots("####....", on=15, off=0)
    assert pixels(vga)[0] == expected


def test_cursor_lines_place_and_blinking() -> None:
    vga = text_vga(2, 2, glyph_lines=4)
    for position in range(4):
        put_cell(vga, position, 0x20, 0x17)
    set_cr(vga, 0x0A, 1)
    set_cr(vga, 0x0B, 2)
    set_cr(vga, 0x0F, 3)
    plain = [1] * 16
    under = [1] * 8 + [7] * 8
    shown = [plain] * 5 + [under] * 2 + [plain]
    for frame in (0, 7, 16, 23):
        assert pixels(vga, frame) == shown
    for frame in (8, 15, 24):
        assert pixels(vga, frame) == [plain] * 8


def test_cursor_follows_the_address_not_the_screen() -> None:
    vga = text_vga(2, 1)
    set_cr(vga, 0x0D, 10)
    set_cr(vga, 0x0A, 0)
    set_cr(vga, 0x0B, 0)
    set_cr(vga, 0x0F, 11)
    put_cell(vga, 10, 0x20, 0x07)
    put_cell(vga, 11, 0x20, 0x07)
    assert pixels(vga)[0] == [0] * 8 + [7] * 8
    set_cr(vga, 0x0F, 10)
    set_cr(vga, 0x0B, 0x20)
    assert pixels(vga)[0] == [0] * 8 + [7] * 8, "a skew of 1 delays it by a character"


@pytest.mark.parametrize(("start", "end"), [(0x20, 1), (1, 0), (2, 31)])
def test_cursor_that_does_not_show(start: int, end: int) -> None:
    vga = text_vga(1)
    put_cell(vga, 0, 0x20, 0x07)
    set_cr(vga, 0x0A, start)
    set_cr(vga, 0x0B, end)
    assert pixels(vga) == [[0] * 8] * 2


def test_blinking_or_bright_background() -> None:
    vga = text_vga(1)
    put_cell(vga, 0, 0x41, 0x97)
    assert pixels(vga)[0] == dots("#......#", on=7, off=9)
    set_ar(vga, 0x10, 0x08)
    for frame in (0, 15, 32):
        assert pixels(vga, frame)[0] == dots("#......#", on=7, off=1)
    for frame in (16, 31):
        assert pixels(vga, frame)[0] == [1] * 8


def test_underline() -> None:
    vga = text_vga(2)
    set_cr(vga, 0x14, 0)
    put_cell(vga, 0, 0x41, 0x89)
    put_cell(vga, 1, 0x41, 0x07)
    first, second = pixels(vga)
    assert first == [9] * 8 + dots("#......#", on=7, off=0)
    assert second == dots(".######.", on=9, off=8) + dots(".######.", on=7, off=0)


def test_start_address_pitch_and_row_repeats() -> None:
    vga = text_vga(1, 3, glyph_lines=1)
    set_cr(vga, 0x0C, 0x01)
    set_cr(vga, 0x0D, 0x02)
    set_cr(vga, 0x13, 2)
    for row in range(3):
        put_cell(vga, 0x102 + 4 * row, 0x20, 0x10 * (row + 1))
    assert pixels(vga) == [[1] * 8, [2] * 8, [3] * 8]


def test_double_scan_and_preset_row() -> None:
    vga = text_vga(1, 4, glyph_lines=1)
    set_cr(vga, 0x13, 1)
    put_cell(vga, 0, 0x41, 0x07)
    set_cr(vga, 0x09, 0xC1)
    outer, inner = dots("#......#", on=7, off=0), dots(".######.", on=7, off=0)
    assert pixels(vga) == [outer, outer, inner, inner]
    set_cr(vga, 0x09, 0x41)
    set_cr(vga, 0x08, 0x01)
    put_cell(vga, 2, 0x41, 0x06)
    below = [[dot * 6 // 7 for dot in line] for line in (outer, inner)]
    assert pixels(vga) == [inner, *below, [0] * 8]


def test_panning_with_eight_and_nine_dots() -> None:
    vga = text_vga(1)
    put_cell(vga, 0, 0x41, 0x07)
    put_cell(vga, 1, 0x20, 0x30)
    set_ar(vga, 0x13, 3)
    assert pixels(vga)[0] == dots("....#", on=7, off=0) + [3] * 3
    set_sr(vga, 1, 0x00)
    assert pixels(vga)[0] == dots("...#.", on=7, off=0) + [3] * 4
    set_ar(vga, 0x13, 8)
    assert pixels(vga)[0] == dots("#......#.", on=7, off=0)
    set_ar(vga, 0x13, 7)
    assert pixels(vga)[0] == [0] + [3] * 8


def test_byte_panning_counts_characters() -> None:
    vga = text_vga(1)
    put_cell(vga, 2, 0x20, 0x30)
    set_cr(vga, 0x08, 0x40)
    assert pixels(vga)[0] == [3] * 8


def test_line_compare_restarts_within_a_row() -> None:
    vga = text_vga(1, 3)
    set_cr(vga, 0x0D, 8)
    set_cr(vga, 0x13, 1)
    put_cell(vga, 0, 0x41, 0x07)
    put_cell(vga, 8, 0x41, 0x06)
    put_cell(vga, 10, 0x41, 0x05)
    set_cr(vga, 0x07, 0x00)
    set_cr(vga, 0x09, 0x01)
    set_cr(vga, 0x18, 2)
    outer, inner = dots("#......#"), dots(".######.")
    colours = [line[1] or line[0] for line in pixels(vga)]
    assert colours == [6, 6, 5, 7, 7, 0], "the split row starts over at its first line"
    shapes = [[int(dot > 0) for dot in line] for line in pixels(vga)]
    assert shapes[:5] == [outer, inner, outer, outer, inner]


def test_plane_enable_and_palette_apply() -> None:
    vga = text_vga(1)
    put_cell(vga, 0, 0x41, 0x2F)
    set_ar(vga, 0x12, 0x0D)
    assert pixels(vga)[0] == dots("#......#", on=13, off=0)
    set_ar(vga, 0x0D, 0x3C)
    set_ar(vga, 0x14, 0x0B)
    assert pixels(vga)[0] == dots("#......#", on=0xBC, off=0x80)
    set_ar(vga, 0x10, 0x80)
    assert pixels(vga)[0] == dots("#......#", on=0xBC, off=0xB0)


def test_text_reads_rows_without_trailing_blanks() -> None:
    vga = text_vga(6, 3)
    for position, code in enumerate(b"Hi\x00\x01\xfe \xc9\xcd\xbb\xff  "):
        put_cell(vga, position, code, 0x07)
    assert vga.text() == ["Hi ☺■", "╔═╗", ""]
    set_cr(vga, 0x0D, 6)
    assert vga.text() == ["╔═╗", "", ""]
    set_gr(vga, 6, 0x0F)
    assert vga.text() is None


def test_text_counts_rows_seen_in_part_and_splits() -> None:
    vga = text_vga(1, 2)
    for position in range(12):
        put_cell(vga, position, 0x41 + position, 0x07)
    set_cr(vga, 0x13, 1)
    set_cr(vga, 0x0D, 8)
    set_cr(vga, 0x08, 0x01)
    assert vga.text() == ["I", "K", ""]
    set_cr(vga, 0x07, 0x00)
    set_cr(vga, 0x09, 0x01)
    set_cr(vga, 0x18, 1)
    assert vga.text() == ["I", "K", "A"]


def test_text_is_empty_after_reset_and_there_when_blanked() -> None:
    assert Vga(256 << 10).text() == []
    vga = text_vga(1)
    put_cell(vga, 0, 0x41, 0x07)
    outb(vga, 0x3C0, 0x00)
    assert vga.text() == ["A"]
