"""The VGA's ports: what sticks, what answers, in which order bytes arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vga_programs import inb, outb, set_ar, set_cr, set_gr, set_sr, small_vga

from coalesced.devices.vga import Vga

if TYPE_CHECKING:
    from coalesced.devices.bus.device import Device


def test_is_a_device() -> None:
    device: Device = Vga(1 << 20)
    assert device.name == "vga"


@pytest.mark.parametrize("size", [0, 1 << 16, 3 << 20, -1])
def test_refuses_odd_memory_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Vga(size)


def test_regions_are_what_the_machine_maps() -> None:
    vga = small_vga()
    assert (vga.window.name, vga.window.size) == ("vga-lowmem", 0x20000)
    assert vga.window.coalesced == ((0, 0x20000),)
    assert vga.window.take_run is not None
    assert (vga.ports.name, vga.ports.size, vga.ports.flush) == ("vga", 0x30, True)
    assert not vga.ports.coalesced


def test_everything_is_zero_after_power_on_and_after_reset() -> None:
    vga = Vga(256 << 10)
    fresh = dict(vga.state())
    for value in fresh.values():
        assert not value if isinstance(value, int) else not any(value)
    outb(vga, 0x3C2, 0x63)
    set_sr(vga, 2, 15)
    set_ar(vga, 0, 5)
    vga.vram[3] = 7
    vga.window.read(0, 1)
    vga.reset()
    assert vga.vram[3] == 7, "memory keeps its contents"
    vga.vram[3] = 0
    assert vga.state() == {**fresh, "latch": 7 << 24}, "the latches keep theirs, too"


@pytest.mark.parametrize(
    ("index_port", "masks"),
    [
        (0x3C4, [0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0, 0, 0xFF]),
        (0x3CE, [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_register_masks(index_port: int, masks: list[int]) -> None:
    vga = small_vga()
    for index, mask in enumerate(masks):
        outb(vga, index_port, index)
        outb(vga, index_port + 1, 0xFF)
        assert inb(vga, index_port + 1) == mask


def test_indices_wrap_at_their_width() -> None:
    vga = small_vga()
    for port, mask in ((0x3C4, 0x07), (0x3CE, 0x0F), (0x3D4, 0xFF)):
        outb(vga, port, 0xFF)
        assert inb(vga, port) == mask


def test_misc_moves_the_crtc() -> None:
    vga = small_vga()
    set_cr(vga, 0x0E, 0x12)
    assert inb(vga, 0x3B5) == 0xFF
    outb(vga, 0x3C2, 0xFE)
    assert inb(vga, 0x3CC) == 0xEE, "bit 4 never sticks"
    assert inb(vga, 0x3D4) == inb(vga, 0x3D5) == inb(vga, 0x3DA) == 0xFF
    assert inb(vga, 0x3B4) == 0x0E
    assert inb(vga, 0x3B5) == 0x12
    outb(vga, 0x3D5, 0x99)
    assert inb(vga, 0x3B5) == 0x12


def test_crtc_protection_leaves_only_line_compare() -> None:
    vga = small_vga()
    set_cr(vga, 7, 0xA5)
    set_cr(vga, 0x11, 0x80)
    for index in range(7):
        set_cr(vga, index, 0x5A)
        assert inb(vga, 0x3D5) == 0
    set_cr(vga, 7, 0x5A)
    assert inb(vga, 0x3D5) == 0xB5
    set_cr(vga, 7, 0x4A)
    assert inb(vga, 0x3D5) == 0xA5
    set_cr(vga, 8, 0x5A)
    assert inb(vga, 0x3D5) == 0x5A
    set_cr(vga, 0x11, 0x00)
    set_cr(vga, 0, 0x77)
    assert inb(vga, 0x3D5) == 0x77


def test_attribute_port_takes_index_and_data_in_turn() -> None:
    vga = small_vga()
    outb(vga, 0x3C0, 0xF0)
    assert inb(vga, 0x3C0) == 0, "the index is hidden while data is awaited"
    outb(vga, 0x3C0, 0xFF)
    assert inb(vga, 0x3C0) == 0x30, "six bits of index, the display enabled"
    assert inb(vga, 0x3C1) == 0xEF
    outb(vga, 0x3C0, 0x03)
    inb(vga, 0x3DA)
    outb(vga, 0x3C0, 0x04)
    outb(vga, 0x3C0, 0xFF)
    assert inb(vga, 0x3C0) == 0x04, "reading status 1 made the next byte an index"
    assert inb(vga, 0x3C1) == 0x3F


@pytest.mark.parametrize(
    ("index", "mask"),
    [(0, 0x3F), (15, 0x3F), (16, 0xEF), (17, 0xFF), (18, 0x3F), (19, 15), (20, 15)],
)
def test_attribute_masks(index: int, mask: int) -> None:
    vga = small_vga()
    set_ar(vga, index, 0xFF)
    assert inb(vga, 0x3C1) == mask


def test_attribute_registers_end_at_0x14() -> None:
    vga = small_vga()
    set_ar(vga, 0x15, 0xFF)
    assert inb(vga, 0x3C1) == 0


def test_status_1_toggles() -> None:
    vga = small_vga()
    before = dict(vga.state())
    assert [inb(vga, 0x3DA) for _ in range(4)] == [9, 0, 9, 0]
    inb(vga, 0x3DA)
    assert vga.state() == before, "the toggle is no state"


def test_dac_writes_whole_colours_and_moves_on() -> None:
    vga = small_vga()
    outb(vga, 0x3C8, 0xFF)
    assert inb(vga, 0x3C7) == 0
    for value in (0xC1, 2, 3):
        outb(vga, 0x3C9, value)
    assert inb(vga, 0x3C8) == 0, "the index wraps"
    for value in (4, 5):
        outb(vga, 0x3C9, value)
    assert vga.registers.palette[:3] == bytes(3), "an unfinished colour changes nothing"
    outb(vga, 0x3C9, 6)
    outb(vga, 0x3C7, 0xFF)
    assert inb(vga, 0x3C7) == 3
    assert inb(vga, 0x3C8) == 1
    assert [inb(vga, 0x3C9) for _ in range(6)] == [0xC1, 2, 3, 4, 5, 6], "all 8 bits are kept"


def test_dac_index_write_restarts_the_triple() -> None:
    vga = small_vga()
    outb(vga, 0x3C8, 0)
    outb(vga, 0x3C9, 63)
    outb(vga, 0x3C8, 0)
    for value in (1, 2, 3):
        outb(vga, 0x3C9, value)
    assert vga.registers.palette[:3] == bytes((1, 2, 3))


def test_feature_control_is_written_beside_status_1() -> None:
    vga = small_vga()
    outb(vga, 0x3DA, 0xFF)
    assert inb(vga, 0x3CA) == 0x10
    outb(vga, 0x3CA, 0x00)
    assert inb(vga, 0x3CA) == 0x10


def test_ports_without_register() -> None:
    vga = small_vga()
    for port in (0x3B0, 0x3B3, 0x3BB, 0x3BF, 0x3D0, 0x3D6, 0x3DB, 0x3DF):
        outb(vga, port, 0x55)
        assert inb(vga, port) == 0xFF
    for port in (0x3C2, 0x3C3, 0x3C6, 0x3CB, 0x3CD):
        assert inb(vga, port) == 0


def test_words_are_two_bytes_low_first() -> None:
    vga = small_vga()
    vga.ports.write(0x3D4 - 0x3B0, 2, 0x340E)
    assert vga.registers.cr[0x0E] == 0x34
    assert vga.ports.read(0x3D4 - 0x3B0, 2) == 0x340E
    assert vga.ports.read(0x3D5 - 0x3B0, 2) == 0xFF34
    vga.ports.write(0x3D3 - 0x3B0, 2, 0x0F55)
    assert inb(vga, 0x3D4) == 0x0F, "the half beside the chip is lost, the other is not"


def test_dwords_read_ones_and_write_nothing() -> None:
    vga = small_vga()
    before = dict(vga.state())
    for port in (0x3C0, 0x3C4, 0x3C5, 0x3CC, 0x3D4):
        vga.ports.write(port - 0x3B0, 4, 0x11223344)
        assert vga.ports.read(port - 0x3B0, 4) == 0xFFFFFFFF
    assert vga.state() == before


def test_set_gr_reaches_graphics_controller() -> None:
    vga = small_vga()
    set_gr(vga, 8, 0xA5)
    assert vga.ports.read(0x3CE - 0x3B0, 2) == 0xA508


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 0x2F),
            st.integers(1, 8),
            st.integers(0, (1 << 64) - 1),
        ),
        max_size=60,
    )
)
def test_no_access_raises(accesses: list[tuple[bool, int, int, int]]) -> None:
    vga = small_vga()
    for is_write, offset, size, value in accesses:
        if is_write:
            vga.ports.write(offset, size, value)
        else:
            assert 0 <= vga.ports.read(offset, size) < 1 << (8 * size)
