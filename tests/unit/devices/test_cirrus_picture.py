"""The picture in the extended modes, the cursor, and the synthetic guest's city."""

from __future__ import annotations

import numpy as np
import pytest
from cirrus_programs import inb, new_chip, outb, set_cr, set_gr, set_sr

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.cirrus import CirrusVga
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import GD5446_PCI, VRAM_SIZE
from coalesced.devices.i440fx import I440fx
from coalesced.tools.guests import cirrus as guest
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.machine import Machine
from helpers.pci_bus import pci_bus


def show(chip: CirrusChip, width: int, lines: int, pitch: int, sr7: int, hidden_dac: int) -> None:
    """A screen of packed pixels: width in pixels, pitch in bytes, both multiples of 8."""
    set_sr(chip, 1, 0x01)
    set_sr(chip, 7, sr7)
    set_gr(chip, 5, 0x40)
    set_gr(chip, 6, 0x05)
    set_cr(chip, 0x01, width // 8 - 1)
    set_cr(chip, 0x12, lines - 1)
    set_cr(chip, 0x07, 0x10)
    set_cr(chip, 0x09, 0x40)
    set_cr(chip, 0x17, 0xE3)
    set_cr(chip, 0x18, 0xFF)
    set_cr(chip, 0x13, pitch // 8 & 0xFF)
    set_cr(chip, 0x1B, pitch // 8 >> 4 & 0x10)
    inb(chip, 0x3DA)
    outb(chip, 0x3C0, 0x20)
    inb(chip, 0x3C8)
    for _ in range(4):
        inb(chip, 0x3C6)
    outb(chip, 0x3C6, hidden_dac)
    outb(chip, 0x3C8, 0)
    for index in range(256):
        for component in (index & 0x3F, index >> 6, 63):
            outb(chip, 0x3C9, component)


@pytest.mark.parametrize(
    ("sr7", "hidden_dac", "pixel", "color"),
    [
        (0x01, 0x00, b"\x7f", (255, 4, 255)),
        (0x07, 0x00, b"\x1f\x7c", (255, 0, 255)),
        (0x07, 0xC1, b"\xe0\x07", (0, 255, 0)),
        (0x03, 0xC1, b"\x00\xf8", (255, 0, 0)),
        (0x05, 0x00, b"\x03\x02\x01", (1, 2, 3)),
        (0x09, 0x00, b"\x03\x02\x01\x00", (1, 2, 3)),
    ],
)
def test_depths(sr7: int, hidden_dac: int, pixel: bytes, color: tuple[int, int, int]) -> None:
    chip = new_chip()
    pitch = 16 * len(pixel)
    show(chip, 16, 4, pitch, sr7, hidden_dac)
    at = pitch * 2 + 5 * len(pixel)
    chip.vram[at : at + len(pixel)] = list(pixel)
    picture = chip.render()
    assert picture.shape == (4, 16, 3)
    assert tuple(picture[2, 5].tolist()) == color


def test_start_pitch_split_and_double_scan() -> None:
    chip = new_chip()
    show(chip, 8, 8, 2048 + 8, 0x01, 0)
    set_cr(chip, 0x1B, 0x10 | 0x0D)  # pitch bit 8, start bits 16 to 18
    set_cr(chip, 0x1D, 0x80)
    set_cr(chip, 0x0D, 3)
    set_cr(chip, 0x18, 5)
    set_cr(chip, 0x07, 0x00)
    set_cr(chip, 0x09, 0x80)
    first = (0x80000 | 0x70000 | 3) << 2
    rows = [first, first, first + 2056, first + 2056, first + 4112, first + 4112, 0, 0]
    for value, at in enumerate(rows):
        chip.vram[at % VRAM_SIZE] = value // 2
    shades = chip.render()[:, 0, 0]
    assert shades.tolist() == [0, 0, 4, 4, 8, 8, 12, 12]


def planar(chip: CirrusChip) -> None:
    """Sixteen colours, 64 by 8; the colour that all planes make is white."""
    show(chip, 64, 8, 16, 0x00, 0)
    set_gr(chip, 5, 0x00)
    set_sr(chip, 2, 0x0F)
    inb(chip, 0x3DA)
    for index in range(16):
        outb(chip, 0x3C0, index)
        outb(chip, 0x3C0, index)
    for index, value in ((0x10, 0x01), (0x12, 0x0F)):
        outb(chip, 0x3C0, index)
        outb(chip, 0x3C0, value)
    outb(chip, 0x3C0, 0x20)
    outb(chip, 0x3C8, 15)
    for _ in range(3):
        outb(chip, 0x3C9, 0x3F)


@pytest.mark.parametrize(
    ("register", "value", "start"),
    [
        (0x1B, 0x01, 0x40000),
        (0x1B, 0x03, 0x40000),
        (0x1B, 0x06, 0x80000),
        (0x1B, 0x08, 0x100000),
        (0x1D, 0x80, 0x200000),
    ],
)
def test_the_high_bits_of_the_start_count_in_planar_modes(
    register: int, value: int, start: int
) -> None:
    chip = new_chip()
    planar(chip)
    set_cr(chip, register, value)
    chip.vram[start : start + 4] = 0x80
    picture = chip.render()
    assert picture[0, 0].tolist() == [255] * 3
    assert (picture == 255).all(axis=-1).sum() == 1


def test_bit_8_of_the_offset_counts_in_planar_modes() -> None:
    chip = new_chip()
    planar(chip)
    set_cr(chip, 0x1B, 0x10)
    chip.vram[3 * (0x100 << 3 | 16) :][:4] = 0x80
    assert np.argwhere((chip.render() == 255).all(axis=-1)).tolist() == [[3, 0]]


def test_the_high_bits_of_the_start_count_in_text() -> None:
    chip = new_chip()
    planar(chip)
    set_gr(chip, 6, 0x0E)
    set_cr(chip, 0x1B, 0x01)
    chip.vram[0x40000:0x40004] = list(b"A\x07\0\0")
    rows = chip.text()
    assert rows is not None
    assert rows[0][:1] == "A"


def test_interlacing_doubles_the_lines_of_graphics_alone() -> None:
    chip = new_chip()
    planar(chip)
    set_cr(chip, 0x1A, 0x01)
    assert chip.render().shape == (16, 64, 3)
    set_gr(chip, 6, 0x0E)
    assert chip.render().shape[0] == 8


def test_before_any_mode_the_picture_has_the_size_of_a_window() -> None:
    picture = new_chip().render()
    assert picture.shape == (480, 640, 3)
    assert not picture.any()


@pytest.mark.parametrize("memory", [4 << 20, 8 << 20, 16 << 20])
def test_the_display_wraps_at_the_end_of_memory(memory: int) -> None:
    chip = CirrusChip(GD5446_PCI, memory)
    outb(chip, 0x3C2, 0x67)
    set_sr(chip, 6, 0x12)
    show(chip, 8, 4, 2048, 0x01, 0)
    set_cr(chip, 0x1B, 0x1D)
    set_cr(chip, 0x1D, 0x80)
    set_cr(chip, 0x0C, 0xFF)
    set_cr(chip, 0x0D, 0xFF)
    first = 0xFFFFF * 4
    for line in range(4):
        chip.vram[(first + line * 2048) % memory] = line + 1
    assert chip.render()[:, 0, 0].tolist() == [4, 8, 12, 16]


@pytest.mark.parametrize(("attributes", "size"), [(0x01, 32), (0x05, 64)])
def test_cursor(attributes: int, size: int) -> None:
    chip = new_chip()
    show(chip, 128, 100, 128, 0x01, 0)
    set_sr(chip, 0x12, 0x02)
    for index, shade in ((0, 0x15), (15, 0x2A)):
        outb(chip, 0x3C8, index)
        for _ in range(3):
            outb(chip, 0x3C9, shade)
    set_sr(chip, 0x13, 0x3F if size == 32 else 0x3C)
    set_sr(chip, 0x10 | 3 << 5, 2)
    set_sr(chip, 0x11, 1)
    line = VRAM_SIZE - (256 if size == 32 else 1024)
    chip.vram[line] = 0b01010000  # plane 0
    chip.vram[line + (128 if size == 32 else 8)] = 0b00110000  # plane 1
    off = chip.render()
    set_sr(chip, 0x12, attributes)
    on = chip.render()
    assert (on[8, 19:23] == [off[8, 19], 255 - off[8, 20], [0x55] * 3, [0xAA] * 3]).all()
    on[8, 19:23] = off[8, 19:23]
    assert (on == off).all()


def test_cursor_beyond_the_screen() -> None:
    chip = new_chip()
    show(chip, 16, 4, 16, 0x01, 0)
    set_sr(chip, 0x12, 0x05)
    for index in (0xF0, 0xF1):
        set_sr(chip, index, 0xFF)
    assert chip.render().shape == (4, 16, 3)


def test_the_guest_draws_its_city() -> None:
    """Each kind of blit has left its mark; nothing waits any more."""
    with Machine(DirectAccelerator()) as machine:
        bus = pci_bus(machine.memory, machine.ports, machine.accel.set_irq)
        card = CirrusVga()
        bus.add(I440fx(), 0)
        bus.add(card, 2)
        machine.add_device(card)
        machine.run("coalesced.tools.guests.cirrus:draw")
    screen = card.chip.vram[: 480 * 640].reshape(480, 640)
    assert not card.chip.blitter.receiving
    assert card.chip.registers.gr[0x31] == 0
    assert card.text() is None
    assert card.render().shape == (480, 640, 3)
    moon = screen[60:156, 70:166]
    assert ((moon >= guest.MOON) & (moon < guest.MOON + 32)).mean() > 0.7
    assert guest.SHADOW not in moon, "the transparent colour"
    assert (screen[guest.SHORE :] >= guest.WATER).mean() > 0.97
    for color in (guest.WALL, guest.WALL_FAR, guest.WINDOW_LIT, guest.STAR, guest.TITLE):
        assert (screen[: guest.SHORE] == color).sum() > 100
    x, y = guest.CURSOR_AT
    assert card.render()[y + 5, x + 2].tolist() == [255] * 3


def test_the_guest_places_the_card() -> None:
    assert guest.LFB % (32 << 20) == 0
    space = AddressSpace("memory", 1 << 32, 0)
    bus = pci_bus(space, AddressSpace("ports", 1 << 16, 0xFF))
    card = CirrusVga()
    bus.add(card, 2)
    assert space.region_at(0xA0000) is card.chip.window
    card.config_write(0x10, 4, guest.LFB)
    card.config_write(4, 2, 2)
    assert space.region_at(guest.LFB) is card.chip.linear
    assert isinstance(card.render(), np.ndarray)
