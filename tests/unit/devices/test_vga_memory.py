"""The window one access at a time, with values worked out by hand."""

from __future__ import annotations

import pytest
from vga_programs import VRAM, planar_vga, put_planes, set_gr, set_sr, small_vga

from coalesced.devices.vga import Vga


def planes(vga: Vga, address: int = 0) -> list[int]:
    values: list[int] = vga.vram[4 * address : 4 * address + 4].tolist()
    return values


def load_latch(vga: Vga, *values: int) -> None:
    put_planes(vga, 100, *values)
    vga.window.read(100, 1)


def test_closed_until_the_bit_mask_is_set() -> None:
    vga = small_vga()
    set_sr(vga, 2, 0x0F)
    vga.window.write(0, 1, 0xFF)
    assert planes(vga) == [0, 0, 0, 0]


def test_write_mode_0_reaches_the_open_planes() -> None:
    vga = planar_vga()
    set_sr(vga, 2, 0x05)
    vga.window.write(0, 1, 0xA5)
    assert planes(vga) == [0xA5, 0, 0xA5, 0]


def test_write_mode_0_rotates_right() -> None:
    vga = planar_vga()
    set_gr(vga, 3, 3)
    vga.window.write(0, 1, 0b00010110)
    assert planes(vga) == [0b11000010] * 4


def test_set_reset_replaces_the_enabled_planes() -> None:
    vga = planar_vga()
    set_gr(vga, 0, 0b0101)
    set_gr(vga, 1, 0b0011)
    vga.window.write(0, 1, 0x3C)
    assert planes(vga) == [0xFF, 0x00, 0x3C, 0x3C]


def test_bit_mask_keeps_latched_bits() -> None:
    vga = planar_vga()
    load_latch(vga, 0x0F, 0xF0, 0xFF, 0x00)
    set_gr(vga, 8, 0b00111100)
    vga.window.write(0, 1, 0b01010101)
    assert planes(vga) == [0b00010111, 0b11010100, 0b11010111, 0b00010100]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (0, [0b11001100] * 4),
        (1, [0b10001000, 0b00000000, 0b11001100, 0b01000100]),
        (2, [0b11101110, 0b11001100, 0b11111111, 0b11011101]),
        (3, [0b01100110, 0b11001100, 0b00110011, 0b10011001]),
    ],
)
def test_logic_operations(operation: int, expected: list[int]) -> None:
    vga = planar_vga()
    load_latch(vga, 0b10101010, 0, 0xFF, 0b01010101)
    set_gr(vga, 3, operation << 3)
    vga.window.write(0, 1, 0b11001100)
    assert planes(vga) == expected


def test_write_mode_1_copies_the_latches() -> None:
    vga = planar_vga()
    load_latch(vga, 1, 2, 3, 4)
    set_gr(vga, 5, 1)
    set_gr(vga, 8, 0)
    set_sr(vga, 2, 0x0D)
    vga.window.write(7, 1, 0x99)
    assert planes(vga, 7) == [1, 0, 3, 4]


def test_write_mode_2_spreads_four_bits() -> None:
    vga = planar_vga()
    load_latch(vga, 0x00, 0x00, 0xFF, 0xFF)
    set_gr(vga, 5, 2)
    set_gr(vga, 8, 0x0F)
    set_gr(vga, 3, 5)
    set_gr(vga, 1, 0x0F)
    vga.window.write(0, 1, 0xF6)
    assert planes(vga) == [0x00, 0x0F, 0xFF, 0xF0], "neither rotation nor set/reset take part"


def test_write_mode_3_uses_data_as_bit_mask() -> None:
    vga = planar_vga()
    load_latch(vga, 0x00, 0xFF, 0x00, 0xFF)
    set_gr(vga, 5, 3)
    set_gr(vga, 0, 0b0011)
    set_gr(vga, 3, 4)
    set_gr(vga, 8, 0b01111110)
    vga.window.write(0, 1, 0b00111100)  # rotated: 0b11000011
    assert planes(vga) == [0b01000010, 0xFF, 0x00, 0b10111101]


def test_read_mode_0_reads_one_plane_and_latches_all() -> None:
    vga = planar_vga()
    put_planes(vga, 5, 0x11, 0x22, 0x33, 0x44)
    for plane, value in enumerate((0x11, 0x22, 0x33, 0x44)):
        set_gr(vga, 4, plane)
        assert vga.window.read(5, 1) == value
    assert vga.state()["latch"] == 0x44332211


def test_read_mode_1_compares_colours() -> None:
    vga = planar_vga()
    # Pixels left to right: colours 0b1111, 0b0001, 0b0101, 0b0000, then four of 0b0001
    put_planes(vga, 0, 0b11101111, 0b10000000, 0b10100000, 0b10000000)
    set_gr(vga, 5, 0x08)
    set_gr(vga, 2, 0b0101)
    set_gr(vga, 7, 0b1111)
    assert vga.window.read(0, 1) == 0b00100000
    set_gr(vga, 7, 0b1011)  # plane 2 does not matter
    assert vga.window.read(0, 1) == 0b01101111
    set_gr(vga, 7, 0b0000)
    assert vga.window.read(0, 1) == 0xFF


def test_chain_4_is_plain_byte_addressing() -> None:
    vga = small_vga()
    set_sr(vga, 4, 0x0E)
    set_sr(vga, 2, 0x0B)
    set_gr(vga, 6, 0x05)
    vga.window.write(8, 4, 0x44332211)
    assert planes(vga, 2) == [0x11, 0x22, 0, 0x44], "needs no bit mask, obeys the map mask"
    assert vga.window.read(8, 4) == 0x44002211
    assert vga.state()["latch"] == 0


def test_odd_even_pairs_planes() -> None:
    vga = small_vga()
    set_sr(vga, 2, 0x03)
    set_gr(vga, 5, 0x10)
    set_gr(vga, 6, 0x0E)
    vga.window.write(0x18000 + 6, 2, 0x0741)
    assert planes(vga, 3) == [0x41, 0x07, 0, 0]
    assert vga.window.read(0x18000 + 6, 2) == 0x0741
    set_gr(vga, 4, 2)
    vga.window.write(0x18000 + 6, 2, 0x2211)
    assert planes(vga, 3) == [0x41, 0x07, 0, 0], "planes 2 and 3 are closed"
    set_sr(vga, 2, 0x08)
    vga.window.write(0x18000 + 6, 2, 0x2211)
    assert planes(vga, 3) == [0x41, 0x07, 0, 0x22]
    assert vga.window.read(0x18000 + 6, 2) == 0x2200
    assert vga.state()["latch"] == 0


@pytest.mark.parametrize(
    ("window_map", "first", "last"),
    [(0, 0, 0x1FFFF), (1, 0, 0xFFFF), (2, 0x10000, 0x17FFF), (3, 0x18000, 0x1FFFF)],
)
def test_memory_maps(window_map: int, first: int, last: int) -> None:
    vga = Vga(1 << 20)
    set_sr(vga, 2, 0x0F)
    set_gr(vga, 6, window_map << 2)
    set_gr(vga, 8, 0xFF)
    vga.window.write(first, 1, 0x12)
    vga.window.write(last, 1, 0x34)
    assert planes(vga, 0) == [0x12] * 4
    assert planes(vga, last - first) == [0x34] * 4
    for outside in {first - 1, last + 1} - {-1, 0x20000}:
        vga.window.write(outside, 1, 0x56)
        assert vga.window.read(outside, 1) == 0xFF
    assert vga.vram.sum() == 4 * (0x12 + 0x34)


def test_wide_accesses_go_byte_by_byte_upwards() -> None:
    vga = planar_vga()
    vga.window.write(0xFFFC, 8, 0x8877665544332211)
    assert planes(vga, 0xFFFF) == [0x44] * 4, "the rest lies outside the map"
    assert vga.window.read(0xFFFC, 8) == 0xFFFFFFFF44332211
    assert vga.state()["latch"] == 0x44444444, "of the last byte read"


def test_addresses_past_small_memories_are_lost() -> None:
    vga = planar_vga()
    set_gr(vga, 6, 0x01)
    vga.window.write(VRAM // 4 - 1, 2, 0x2211)
    assert vga.window.read(VRAM // 4 - 1, 2) == 0xFF11
