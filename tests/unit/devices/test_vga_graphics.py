"""Graphics screens, dot by dot, and pictures of nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vga_programs import (
    VRAM,
    dots,
    outb,
    pixels,
    put_planes,
    set_ar,
    set_cr,
    set_gr,
    set_sr,
    show,
    small_vga,
)

from coalesced.devices.vga import Vga


def graphics_vga(columns: int, lines: int, *, gr5: int = 0, pitch: int | None = None) -> Vga:
    vga = small_vga()
    show(vga, columns, lines, pitch=pitch)
    set_gr(vga, 5, gr5)
    return vga


def test_sixteen_colours_take_a_bit_of_each_plane() -> None:
    vga = graphics_vga(2, 1)
    put_planes(vga, 0, 0b01010101, 0b00110011, 0b00001111, 0)
    put_planes(vga, 1, 0b01010101, 0b00110011, 0b00001111, 0xFF)
    assert pixels(vga) == [list(range(16))]


def test_closed_planes_read_as_zero() -> None:
    vga = graphics_vga(1, 1)
    put_planes(vga, 0, 0b01010101, 0b00110011, 0b00001111, 0)
    set_ar(vga, 0x12, 0b0101)
    assert pixels(vga) == [[0, 1, 0, 1, 4, 5, 4, 5]]


def test_dac_makes_eight_bits_of_six() -> None:
    vga = graphics_vga(1, 1)
    outb(vga, 0x3C8, 0)
    for component in (0x3F, 0x2A, 0xC1):
        outb(vga, 0x3C9, component)
    assert vga.render().shape == (1, 8, 3)
    assert vga.render().dtype == np.uint8
    assert vga.render()[0, 0].tolist() == [0xFF, 0xAA, 0x04]


def test_attribute_palette_and_colour_select() -> None:
    vga = graphics_vga(1, 1)
    put_planes(vga, 0, 0xFF, 0xFF)
    set_ar(vga, 3, 0x2B)
    set_ar(vga, 0x14, 0x06)
    assert pixels(vga)[0][0] == 0x6B
    set_ar(vga, 0x10, 0x81)
    assert pixels(vga)[0][0] == 0x6B
    set_ar(vga, 0x14, 0x05)
    assert pixels(vga)[0][0] == 0x5B


def test_mode_13h_shows_bytes_two_dots_wide_and_two_lines_high() -> None:
    vga = graphics_vga(2, 4, gr5=0x40)
    set_sr(vga, 2, 0x0F)
    set_sr(vga, 4, 0x0E)
    set_cr(vga, 0x14, 0x40)
    set_cr(vga, 0x17, 0xA3)
    set_cr(vga, 0x09, 0x41)
    for offset in range(16):
        vga.window.write(offset, 1, 0xF0 + offset)
    first = [0xF0 + dot // 2 for dot in range(16)]
    second = [0xF8 + dot // 2 for dot in range(16)]
    assert pixels(vga) == [first, first, second, second]


def test_mode_x_shows_planes_as_neighbours() -> None:
    vga = graphics_vga(1, 2, gr5=0x40, pitch=2)
    set_sr(vga, 4, 0x06)
    set_gr(vga, 8, 0xFF)
    for plane in range(4):
        set_sr(vga, 2, 1 << plane)
        vga.window.write(2, 1, 0x80 + plane)
    assert pixels(vga) == [[0] * 8, [0x80, 0x80, 0x81, 0x81, 0x82, 0x82, 0x83, 0x83]]


def test_256_colours_pass_the_attribute_controller_by_halves() -> None:
    vga = graphics_vga(1, 1, gr5=0x60)
    put_planes(vga, 0, 0x4F, 0x10, 0x31, 0x04)
    set_ar(vga, 1, 0x3E)
    set_ar(vga, 0x12, 0x03)
    assert pixels(vga) == [[0x03] * 2 + [0xE0] * 2 + [0x3E] * 2 + [0x00] * 2]


def test_cga_four_colours_alternate_between_two_banks() -> None:
    """Mode 4: odd/even bytes, pairs of bits, odd rows 8 KiB further, every line twice."""
    vga = graphics_vga(1, 8, gr5=0x30, pitch=2)
    set_sr(vga, 2, 0x03)
    set_gr(vga, 6, 0x0F)
    set_cr(vga, 0x09, 0xC1)
    set_cr(vga, 0x17, 0xA2)
    for offset, value in ((0, 0x1BE4), (0x2000, 0xFF00), (4, 0x5555), (0x2004, 0xAAAA)):
        vga.window.write(0x18000 + offset, 2, value)
    rows = [[3, 2, 1, 0, 0, 1, 2, 3], [0] * 4 + [3] * 4, [1] * 8, [2] * 8]
    assert pixels(vga) == [row for row in rows for _ in range(2)]


def test_interleaved_pixels_have_planes_2_and_3_on_top() -> None:
    vga = graphics_vga(1, 1, gr5=0x20)
    put_planes(vga, 0, 0b00011011, 0b11100100, 0b11111111, 0b00000001)
    assert pixels(vga) == [[12, 13, 14, 15, 3, 2, 1, 4]]


def test_cga_two_colours_in_two_banks() -> None:
    """Mode 6: one plane, byte mode, so that row scan 0 is address line 13."""
    vga = graphics_vga(1, 2, pitch=2)
    set_cr(vga, 0x09, 0x41)
    set_cr(vga, 0x17, 0xC2)
    set_ar(vga, 0x12, 0x01)
    put_planes(vga, 0, 0b11110000, 0xFF)
    put_planes(vga, 0x2000, 0b00111100, 0xFF)
    assert pixels(vga) == [dots("####...."), dots("..####..")]


def test_hercules_takes_two_row_scan_bits() -> None:
    vga = graphics_vga(1, 4, pitch=2)
    set_cr(vga, 0x09, 0x43)
    set_cr(vga, 0x17, 0xC0)
    for bank in range(4):
        put_planes(vga, 0x2000 * bank, 0x80 >> bank)
    assert [line.index(1) for line in pixels(vga)] == [0, 1, 2, 3]


def test_start_address_and_pitch() -> None:
    vga = graphics_vga(1, 2, pitch=6)
    set_cr(vga, 0x0C, 0x12)
    set_cr(vga, 0x0D, 0x34)
    put_planes(vga, 0x1234, 0xF0)
    put_planes(vga, 0x1234 + 6, 0x0F)
    assert pixels(vga) == [dots("####...."), dots("....####")]


def test_display_wraps_after_64_ki_addresses() -> None:
    vga = Vga(1 << 20)
    outb(vga, 0x3C2, 1)
    show(vga, 2, 1)
    set_cr(vga, 0x0C, 0xFF)
    set_cr(vga, 0x0D, 0xFF)
    put_planes(vga, 0xFFFF, 0xFF)
    put_planes(vga, 0x0000, 0xF0)
    put_planes(vga, 0x10000, 0x00, 0xFF)
    assert pixels(vga) == [dots("############....")]


@pytest.mark.parametrize(("cr9", "repeats"), [(0x40, 1), (0xC0, 2), (0x42, 3), (0xC2, 6)])
def test_lines_repeat(cr9: int, repeats: int) -> None:
    vga = graphics_vga(1, 6, pitch=2)
    set_cr(vga, 0x09, cr9)
    for row in range(6):
        put_planes(vga, 2 * row, *([0xFF] * (row + 1))[:3])
    expected = [min((1 << (line // repeats + 1)) - 1, 7) for line in range(6)]
    assert [line[0] for line in pixels(vga)] == expected


def test_half_dot_clock() -> None:
    vga = graphics_vga(1, 1)
    set_sr(vga, 1, 0x09)
    put_planes(vga, 0, 0b10100000)
    assert pixels(vga) == [dots("##..##..........")]


def test_panning_moves_the_picture_left() -> None:
    vga = graphics_vga(1, 1)
    put_planes(vga, 0, 0b00000110)
    put_planes(vga, 1, 0b10100000)
    set_ar(vga, 0x13, 5)
    assert pixels(vga) == [dots("##.#.#..")]
    set_gr(vga, 5, 0x40)
    put_planes(vga, 0, 1, 2, 3, 4)
    put_planes(vga, 1, 5)
    set_ar(vga, 0x13, 2)
    assert pixels(vga) == [[2, 2, 3, 3, 4, 4, 5, 5]]


def test_split_screen_shows_address_0_below() -> None:
    vga = graphics_vga(1, 4, pitch=2)
    set_cr(vga, 0x0D, 0x10)
    set_cr(vga, 0x08, 0x20)
    set_ar(vga, 0x13, 1)
    set_cr(vga, 0x07, 0x00)
    set_cr(vga, 0x09, 0x00)
    set_cr(vga, 0x18, 1)
    put_planes(vga, 0x11, 0xFF)
    put_planes(vga, 0x13, 0xFF, 0xFF)
    put_planes(vga, 0, 0x0F)
    put_planes(vga, 1, 0xF0, 0x80)
    assert [line[0] for line in pixels(vga)[:2]] == [1, 3]
    assert pixels(vga)[2] == dots("###.....")
    set_ar(vga, 0x10, 0x21)
    assert [line[0] for line in pixels(vga)[:2]] == [1, 3]
    assert pixels(vga)[2] == dots("....####"), "compatible panning: the lower part stands still"


def test_line_compare_has_ten_bits() -> None:
    vga = graphics_vga(1, 900, pitch=0)
    set_cr(vga, 0x0D, 0x10)
    put_planes(vga, 0x10, 0xFF)
    for line, cr7, cr9 in ((0x300, 0x10, 0x40), (0x200, 0x00, 0x40), (0x100, 0x10, 0x00)):
        set_cr(vga, 0x18, 0x00)
        set_cr(vga, 0x07, 0x42 & ~0x10 | cr7)
        set_cr(vga, 0x09, cr9)
        assert [row[0] for row in pixels(vga)] == [1] * (line + 1) + [0] * (899 - line)


@pytest.mark.parametrize("blank", ["pas", "screen off"])
def test_blanked_screen_is_black_in_its_size(blank: str) -> None:
    vga = graphics_vga(3, 5)
    vga.vram[:] = 0xFF
    if blank == "pas":
        outb(vga, 0x3C0, 0x00)
    else:
        set_sr(vga, 1, 0x21)
    assert vga.render().shape == (5, 24, 3)
    assert not vga.render().any()


def test_unprogrammed_chip_shows_black_vga_size() -> None:
    picture = Vga(VRAM).render()
    assert picture.shape == (480, 640, 3)
    assert not picture.any()


def test_rendering_changes_nothing() -> None:
    vga = graphics_vga(4, 4)
    vga.vram[:64] = range(64)
    before = {name: bytes(v) if not isinstance(v, int) else v for name, v in vga.state().items()}
    picture = vga.render()
    picture[:] = 7
    vga.text()
    assert vga.state() == before


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(0, (1 << 32) - 1))
def test_nonsense_never_raises_and_stays_small(seed: int) -> None:
    """50 chips full of random bits per example, 500 in all."""
    random = np.random.default_rng(seed)
    vga = small_vga()
    vga.vram[:] = random.integers(0, 256, VRAM, np.uint8)
    for _ in range(50):
        registers = vga.registers
        for array in (registers.sr, registers.gr, registers.ar):
            array[:] = random.bytes(len(array))
        registers.cr[:0x20] = random.bytes(0x20)
        if random.random() < 0.7:  # mostly small, so that many fit into a second
            registers.cr[0x01] &= 0x0F
            registers.cr[0x07] &= 0xBD
            registers.cr[0x12] &= 0x3F
        registers.ar_index = 0x20 if random.random() < 0.9 else 0
        picture = vga.render(int(random.integers(0, 100)))
        height, width, components = picture.shape
        assert 1 <= height <= 1024
        assert 8 <= width <= 2048
        assert components == 3
        assert picture.dtype == np.uint8
        rows = vga.text()
        assert rows is None or len(rows) <= height
