"""Where the halves of the banked window lie, and what of the chip outlives a reset."""

from __future__ import annotations

import pytest
from cirrus_programs import FROM_SYSTEM, PATTERN, SOLID, Program, new_chip, outb, set_gr, set_sr

from coalesced.devices.cirrus import CirrusVga
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import GD5430_ISA, GD5446_PCI
from coalesced.devices.vga import PciVga
from coalesced.devices.vga.registers import Registers

MIB = 1 << 20


def extended(chip: CirrusChip) -> CirrusChip:
    """Number the chip's 16 KiB blocks, and turn the extended mode on."""
    chip.vram.reshape(-1, 0x4000)[:] = [[block & 0xFF] for block in range(len(chip.vram) >> 14)]
    outb(chip, 0x3C2, 0x01)
    set_sr(chip, 0x07, 0x01)
    return chip


def blocks(chip: CirrusChip) -> list[int]:
    """The contents of the window, by its quarters."""
    return [chip.window.read(quarter << 14, 1) for quarter in range(4)]


def test_nothing_is_shown_before_a_bank_is_chosen() -> None:
    chip = extended(CirrusChip(GD5446_PCI))
    assert blocks(chip) == [0xFF] * 4
    chip.window.write(0, 1, 0x55)
    assert chip.vram[0] == 0
    for register in (0x09, 0x0A, 0x0B):
        chosen = extended(CirrusChip(GD5446_PCI))
        set_gr(chosen, register, 0)
        assert blocks(chosen) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("bank", "shown"), [(0xFD, [253, 254, 255, 0xFF]), (0xFE, [254, 255, 0, 1])]
)
def test_a_half_that_begins_behind_memory_shows_its_beginning(bank: int, shown: list[int]) -> None:
    chip = extended(CirrusChip(GD5446_PCI))
    set_gr(chip, 0x0B, 0x20)
    set_gr(chip, 0x09, bank)
    assert blocks(chip) == shown


def test_behind_memory_a_window_of_shifted_addresses_is_empty() -> None:
    chip = extended(CirrusChip(GD5446_PCI))
    set_gr(chip, 0x0B, 0x22)
    set_gr(chip, 0x09, 0xFE)
    assert chip.window.read(0, 1) == 240
    assert chip.window.read(0x8000, 1) == 0xFF


@pytest.mark.parametrize("size", [4, 8, 16])
def test_mapped_banks_end_with_memory_and_not_with_what_the_engine_reaches(size: int) -> None:
    chip = extended(CirrusChip(GD5446_PCI, size * MIB))
    set_gr(chip, 0x0B, 0x21)
    set_gr(chip, 0x09, 0xFF)
    assert blocks(chip)[:2] == [255, 0xFF if size == 4 else 0]
    isa = extended(CirrusChip(GD5430_ISA, size * MIB))
    set_gr(isa, 0x0B, 0x21)
    set_gr(isa, 0x09, 0x7F)
    assert blocks(isa)[:2] == [127, 128]


def test_only_vgamem_sizes_of_qemu_are_taken() -> None:
    with pytest.raises(ValueError, match="expected a vram_size of 0x400000, 0x800000, 0x1000000"):
        CirrusVga(2 * MIB)


def test_the_first_end_of_a_blit_looks_anew_where_memory_lies() -> None:
    chip = extended(CirrusChip(GD5446_PCI))
    for expected in ([0, 1, 0, 1], [0xFF] * 4):
        set_gr(chip, 0x31, 0x04)
        set_gr(chip, 0x31, 0x00)
        assert blocks(chip) == expected
        set_sr(chip, 0x07, 0x00)
        set_sr(chip, 0x07, 0x01)


def test_the_end_of_a_pattern_from_the_system_looks_anew_where_memory_lies() -> None:
    chip = extended(CirrusChip(GD5446_PCI))
    set_gr(chip, 0x09, 0x40)
    Program(FROM_SYSTEM | PATTERN, 4, 1, 0x200000).run(chip)
    set_sr(chip, 0x07, 0x00)
    for byte in range(64):
        chip.linear.write(0x1000000 + byte, 1, byte)
    assert not chip.blitter.receiving
    assert not chip.registers.banks_mapped, "SR7 asks for planes, and they are looked at"


def test_a_refused_fill_takes_the_place_of_the_blit_that_waits() -> None:
    chip = new_chip(seed=1)
    before = chip.vram.copy()
    Program(FROM_SYSTEM, 8, 4, 0x100).run(chip)
    Program(PATTERN | 0x80, 8, 4, 0x800, dst_pitch=0, extensions=SOLID).run(chip)
    assert chip.blitter.wanted == 8
    for byte in range(8):
        chip.linear.write(0x900 + byte, 1, byte)
    assert not chip.blitter.receiving
    assert (chip.vram == before).all()


def test_what_a_reset_keeps() -> None:
    chip = new_chip(seed=1)
    set_gr(chip, 9, 0x05)
    set_sr(chip, 0x12, 0x02)
    set_sr(chip, 0x10, 0x20)
    outb(chip, 0x3C8, 0x0F)
    for component in (1, 2, 3):
        outb(chip, 0x3C9, component)
    chip.registers.latch = 0x12345678
    Program(FROM_SYSTEM, 8, 1, 0x100).run(chip)
    set_gr(chip, 0, 0xA5)
    set_gr(chip, 1, 0x5A)
    chip.linear.write(0, 2, 0x2211)
    memory = chip.vram.copy()
    chip.reset()
    r = chip.registers
    assert (chip.vram == memory).all()
    assert (r.shadow_gr0, r.shadow_gr1, r.gr[0]) == (0xA5, 0x5A, 0)
    assert bytes(r.hidden_palette[45:]) == b"\1\2\3"
    assert (r.latch, r.cursor_x) == (0x12345678, 0x20 << 3)
    assert chip.blitter.wanted == 6
    chip.linear.write(0, 8, 0x665544332211_0000 >> 16)
    assert chip.vram[0x100:0x108].tobytes() == bytes.fromhex("1122112233445566")
    set_sr(chip, 0x07, 0x01)
    assert chip.window.read(0x10, 1) == chip.vram[0x5010], "the bank, though GR9 reads 0"


def test_a_vga_keeps_its_latches_over_a_reset() -> None:
    card = PciVga()
    registers: Registers = card.vga.registers
    registers.latch = 0x12345678
    card.reset()
    assert registers.latch == 0x12345678
