"""Registers of the Cirrus as QEMU 7.2 answers them."""

from __future__ import annotations

import pytest
from cirrus_programs import get, inb, new_chip, outb, set_cr, set_gr, set_sr

from coalesced.devices.cirrus import CirrusVga, IsaCirrusVga
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import GD5446_PCI


def test_configuration_space() -> None:
    card = CirrusVga()
    assert card.name == "cirrus-vga"
    assert card.config_read(0, 4) == 0x00B81013
    assert card.config_read(8, 4) == 0x03000000
    assert card.config_read(0x2C, 4) == 0x11001AF4
    for offset, mask in ((0x10, 0xFE000008), (0x14, 0xFFFFF000)):
        card.config_write(offset, 4, 0xFFFFFFFF)
        assert card.config_read(offset, 4) == mask


@pytest.mark.parametrize("value", range(256))
def test_unlock_key(value: int) -> None:
    chip = new_chip()
    set_sr(chip, 6, value)
    assert get(chip, 0x3C4, 6) == (0x12 if value & 0x17 == 0x12 else 0x0F)


def test_reset_values() -> None:
    chip = CirrusChip(GD5446_PCI)
    outb(chip, 0x3C2, 1)
    sr = [get(chip, 0x3C4, index) for index in range(0x20)]
    assert {i: v for i, v in enumerate(sr) if v} == {6: 15, 15: 0x98, 21: 4, 23: 0x20, 31: 0x2D}
    assert get(chip, 0x3D4, 0x27) == 0xB8
    assert get(chip, 0x3CE, 0x18) == 0x0F


def test_isa_card_calls_itself_another_chip() -> None:
    chip = IsaCirrusVga().chip
    outb(chip, 0x3C2, 1)
    assert [get(chip, 0x3C4, index) for index in (0x0F, 0x15, 0x17, 0x1F)] == [0x18, 3, 0x38, 0x22]
    assert get(chip, 0x3D4, 0x27) == 0xA0


@pytest.mark.parametrize(
    ("index", "stuck"),
    [
        (0x05, 0x7F),
        (0x06, 0x0F),
        (0x0B, 0xFF),
        (0x16, 0x00),
        (0x18, 0x0F),
        (0x21, 0x1F),
        (0x2A, 0x3F),
        (0x2B, 0x00),
        (0x39, 0xFF),
        (0x3A, 0xFF),
        (0xFF, 0xFF),
    ],
)
def test_graphics_register_masks(index: int, stuck: int) -> None:
    chip = new_chip()
    set_gr(chip, index, 0xFF)
    assert get(chip, 0x3CE, index) == stuck


def test_set_reset_reads_back_eight_bits() -> None:
    chip = new_chip()
    set_gr(chip, 0, 0xA5)
    set_gr(chip, 1, 0x5A)
    assert (get(chip, 0x3CE, 0), get(chip, 0x3CE, 1)) == (0xA5, 0x5A)
    assert (chip.registers.gr[0], chip.registers.gr[1]) == (0x05, 0x0A), "what planes see"


def test_bus_type_is_read_only() -> None:
    chip = new_chip()
    for value, expected in ((0xFF, 0xE7), (0x00, 0x20)):
        set_sr(chip, 0x17, value)
        assert get(chip, 0x3C4, 0x17) == expected


def test_cursor_position_takes_three_bits_from_the_index() -> None:
    chip = new_chip()
    set_sr(chip, 0x10 | 5 << 5, 0x41)
    set_sr(chip, 0x11 | 2 << 5, 0x03)
    assert (chip.registers.cursor_x, chip.registers.cursor_y) == (0x41 << 3 | 5, 3 << 3 | 2)
    assert get(chip, 0x3C4, 0xF0) == 0x41


def test_hidden_dac_register() -> None:
    chip = new_chip()
    assert {inb(chip, 0x3C6) for _ in range(8)} == {0xFF}, "shut until 0x3c8 is read"
    inb(chip, 0x3C8)
    for _ in range(4):
        assert inb(chip, 0x3C6) == 0xFF
    outb(chip, 0x3C6, 0xE1)
    assert [inb(chip, 0x3C6) for _ in range(6)] == [0xFF] * 4 + [0xE1, 0xFF]
    outb(chip, 0x3C6, 0x00)
    assert chip.registers.hidden_dac == 0xE1, "without the four reads the write is lost"


def test_hidden_colors() -> None:
    chip = new_chip()
    set_sr(chip, 0x12, 0x02)
    outb(chip, 0x3C8, 0x1F)  # the low four bits count
    for component in (1, 2, 3):
        outb(chip, 0x3C9, component)
    assert chip.registers.hidden_palette[45:] == bytes((1, 2, 3))
    assert not any(chip.registers.palette)
    outb(chip, 0x3C7, 0x0F)
    assert [inb(chip, 0x3C9) for _ in range(3)] == [1, 2, 3]


def test_crtc_extensions() -> None:
    chip = new_chip()
    for index in (0x1B, 0x1D, 0x22, 0x27, 0x30):
        set_cr(chip, index, 0x5A)
    assert [get(chip, 0x3D4, i) for i in (0x1B, 0x1D, 0x22, 0x27, 0x30)] == [
        0x5A,
        0x5A,
        0,
        0xB8,
        0xFF,
    ]
    outb(chip, 0x3C0, 0x35)
    assert (get(chip, 0x3D4, 0x24), get(chip, 0x3D4, 0x26)) == (0x80, 0x35)


def test_wide_port_accesses_are_bytes() -> None:
    chip = new_chip()
    chip.ports.write(0x3CE - 0x3B0, 4, 0x5A3C0B << 0 | 0)
    assert chip.registers.gr[0x0B] == 0x3C
    assert chip.ports.read(0x3CE - 0x3B0, 4) == 0x00003C0B


def test_bar1_shows_ports_and_blitter_registers() -> None:
    chip = new_chip()
    chip.mmio.write(0x0E, 2, 0x770B)  # 0x3ce, 0x3cf
    assert chip.mmio.read(0x0F, 1) == 0x77
    chip.mmio.write(0x100, 8, 0x8877665544332211)
    gr = chip.registers.gr
    assert [chip.registers.shadow_gr0, gr[0x10], gr[0x12], gr[0x14]] == [0x11, 0x22, 0x33, 0x44]
    assert [chip.registers.shadow_gr1, gr[0x11], gr[0x13], gr[0x15]] == [0x55, 0x66, 0x77, 0x88]
    assert chip.mmio.read(0x100, 8) == 0x8877665544332211
    assert chip.mmio.read(0x13E, 4) == 0xFF00FFFF
    assert chip.mmio.read(0x80, 4) == 0
