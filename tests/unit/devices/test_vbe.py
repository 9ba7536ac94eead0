"""DISPI: registers, limits, banks and pictures. Numbers are QEMU 7.2's answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.write_run import WriteRun
from coalesced.devices.vga import IsaVga
from coalesced.devices.vga.vbe import (
    INDEX_BANK,
    INDEX_BPP,
    INDEX_ENABLE,
    INDEX_ID,
    INDEX_VIDEO_MEMORY_64K,
    INDEX_VIRT_HEIGHT,
    INDEX_VIRT_WIDTH,
    INDEX_X_OFFSET,
    INDEX_XRES,
    INDEX_Y_OFFSET,
    INDEX_YRES,
    PORTS_BASE,
)

VRAM = 1 << 20
NOCLEAR = 0x80
WINDOW = 0xA0000


class Board:
    """An `isa-vga` at its addresses."""

    def __init__(self, vram_size: int = VRAM) -> None:
        self.vga = IsaVga(vram_size)
        self.memory = AddressSpace("memory", 1 << 64, 0)
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.vga.legacy_memory:
            self.memory.map(region, base, priority)
        for base, region, priority in self.vga.legacy_ports:
            self.ports.map(region, base, priority)

    def get(self, index: int) -> int:
        self.ports.write(0x1CE, 2, index)
        return self.ports.read(0x1CF, 2)

    def put(self, index: int, value: int) -> None:
        self.ports.write(0x1CE, 2, index)
        self.ports.write(0x1CF, 2, value)

    def mode(self, width: int, height: int, bpp: int, flags: int = 0x41) -> None:
        self.put(INDEX_ENABLE, 0)
        self.put(INDEX_XRES, width)
        self.put(INDEX_YRES, height)
        self.put(INDEX_BPP, bpp)
        self.put(INDEX_ENABLE, flags)
        self.ports.read(0x3BA, 1)
        self.ports.write(0x3C0, 1, 0x20)  # show the screen

    def indexed(self, port: int, index: int) -> int:
        self.ports.write(port, 1, index)
        return self.ports.read(port + 1, 1)


# --- ports ---


def test_after_reset() -> None:
    board = Board()
    assert [board.get(index) for index in range(13)] == [0xB0C5, *[0] * 9, VRAM >> 16, 0, 0]


@pytest.mark.parametrize(
    ("port", "answers"),
    [
        (0x1CC, (0xFF, 0xFFFF, 0xFFFFFFFF)),
        (0x1CD, (0xFF, 0xFFFF, 0xFF000AFF)),
        (0x1CE, (0xFF, 0x000A, 0xFFFFFFFF)),
        (0x1CF, (0xFF, 0x0010, 0xFFFFFFFF)),
        (0x1D0, (0xFF, 0x0010, 0xFFFFFFFF)),
        (0x1D1, (0xFF, 0xFFFF, 0xFFFFFFFF)),
    ],
)
def test_only_words_answer(port: int, answers: tuple[int, ...]) -> None:
    board = Board()
    board.get(INDEX_VIDEO_MEMORY_64K)
    assert tuple(board.ports.read(port, size) for size in (1, 2, 4)) == answers


def test_dwords_and_bytes_write_nothing() -> None:
    board = Board()
    board.put(INDEX_XRES, 640)
    for port, size in ((0x1CF, 1), (0x1D0, 1), (0x1CE, 4), (0x1CF, 4), (0x1D0, 4), (0x1CC, 4)):
        board.ports.write(port, size, 0x02000200)
    assert board.ports.read(0x1CE, 2) == INDEX_XRES
    assert board.get(INDEX_XRES) == 640


@pytest.mark.parametrize("value", [0xB0C0, 0xB0C4, 0xB0C5])
def test_known_ids_can_be_chosen(value: int) -> None:
    board = Board()
    board.put(INDEX_ID, value)
    board.put(INDEX_ID, 0xB0C6)
    board.put(INDEX_ID, 0x1234)
    assert board.get(INDEX_ID) == value


def test_capabilities() -> None:
    board = Board()
    board.put(INDEX_XRES, 640)
    board.put(INDEX_ENABLE, 0x02)
    assert [board.get(index) for index in (1, 2, 3)] == [16000, 12000, 32]
    board.put(INDEX_ENABLE, 0)
    assert board.get(INDEX_XRES) == 640


# --- geometry ---


def test_nothing_is_clamped_before_the_mode_is_on() -> None:
    board = Board()
    for index in (1, 2, 3, 6, 8, 9):
        board.put(index, 0xFFFF)
        assert board.get(index) == 0xFFFF


@pytest.mark.parametrize(
    ("width", "height", "bpp", "expected"),
    [
        (640, 480, 8, (640, 480, 8, 640, VRAM // 640)),
        (645, 480, 8, (640, 480, 8, 640, VRAM // 640)),
        (0, 0, 8, (8, 1, 8, 8, VRAM // 8 & 0xFFFF)),
        (640, 480, 7, (640, 480, 8, 640, VRAM // 640)),
        (640, 480, 32, (640, VRAM // 2560, 32, 640, VRAM // 2560)),
        (640, 480, 15, (640, 480, 15, 640, VRAM // 1280)),
        (640, 480, 4, (640, 480, 4, 640, VRAM // 320)),
        (0xFFFF, 0xFFFF, 32, (16000, VRAM // 64000, 32, 16000, VRAM // 64000)),
        (8, 0xFFFF, 8, (8, 12000, 8, 8, VRAM // 8 & 0xFFFF)),
    ],
)
def test_geometry_is_clamped_to_video_memory(
    width: int, height: int, bpp: int, expected: tuple[int, ...]
) -> None:
    board = Board()
    board.mode(width, height, bpp)
    indices = (INDEX_XRES, INDEX_YRES, INDEX_BPP, INDEX_VIRT_WIDTH, INDEX_VIRT_HEIGHT)
    assert tuple(board.get(index) for index in indices) == expected


def test_offsets_that_leave_video_memory_are_dropped() -> None:
    board = Board()
    board.mode(640, 480, 8)
    board.put(INDEX_Y_OFFSET, 1000)
    assert board.get(INDEX_Y_OFFSET) == 1000
    board.put(INDEX_Y_OFFSET, 1200)
    assert board.get(INDEX_Y_OFFSET) == 0
    board.put(INDEX_X_OFFSET, 0xFFFF)
    assert board.get(INDEX_X_OFFSET) == 16000


def test_switching_on_clears_the_picture_unless_told_not_to() -> None:
    board = Board()
    board.vga.vram[:] = 0x55
    board.mode(64, 10, 8, 0x41 | NOCLEAR)
    assert (board.vga.vram == 0x55).all()
    board.mode(64, 10, 8, 0x41)
    assert not board.vga.vram[:640].any()
    assert (board.vga.vram[640:] == 0x55).all()


def test_the_mode_governs_the_vga_registers() -> None:
    """A guest's writes there while a mode is on are overruled at once."""
    board = Board()
    board.ports.write(0x3C2, 1, 0x67)
    board.mode(640, 480, 8)
    board.ports.write(0x3CE, 2, 0x0006)
    board.ports.write(0x3CE, 2, 0x0005)
    board.ports.write(0x3D4, 2, 0x0013)
    assert board.indexed(0x3CE, 6) == 0x05
    assert board.indexed(0x3CE, 5) == 0x40
    assert board.indexed(0x3D4, 0x13) == 80
    assert board.indexed(0x3D4, 0x01) == 79
    board.put(INDEX_ENABLE, 0)
    board.ports.write(0x3CE, 2, 0x0006)
    assert board.indexed(0x3CE, 6) == 0


def test_the_window_is_linear_while_a_mode_is_on() -> None:
    board = Board()
    board.mode(640, 480, 8)
    board.memory.write(WINDOW + 5, 4, 0x44332211)
    assert board.vga.vram[4:10].tolist() == [0, 0x11, 0x22, 0x33, 0x44, 0]
    board.put(INDEX_ENABLE, 0)
    board.memory.write(WINDOW + 5, 4, 0)  # the sequencer's own map mask is closed
    assert board.vga.vram[5] == 0x11


# --- banks ---


def test_banks_move_the_window() -> None:
    board = Board()
    board.mode(640, 480, 8)
    for bank in range(16):
        board.put(INDEX_BANK, bank)
        board.memory.write(WINDOW + 3, 1, bank + 1)
    assert board.vga.vram[3 :: 1 << 16].tolist() == list(range(1, 17))
    board.put(INDEX_BANK, 0xFFFF)
    assert board.get(INDEX_BANK) == 15


def test_a_second_enable_goes_back_to_bank_0() -> None:
    board = Board()
    board.mode(640, 480, 8)
    board.put(INDEX_BANK, 3)
    board.put(INDEX_ENABLE, 0x41)
    board.memory.write(WINDOW, 1, 0x77)
    assert board.vga.vram[0] == 0x77
    assert board.get(INDEX_BANK) == 3


# --- what guests have broken out with: each recreates the bad input of a CVE ---

PLANAR, ODD_EVEN, CHAIN_4 = range(3)


@pytest.mark.parametrize("access", [PLANAR, ODD_EVEN, CHAIN_4])
@pytest.mark.parametrize("misc", [0x01, 0x05, 0x09, 0x0D])
@pytest.mark.parametrize("bank", [0, 3, 15, 0xFFFF])
def test_banked_windows_stay_inside(access: int, misc: int, bank: int) -> None:
    """CVE-2016-3710: a bank that is in range for bytes is out of range for planes."""
    board = Board()
    board.put(INDEX_BANK, bank)
    board.ports.write(0x3C4, 2, 0x0F02)
    board.ports.write(0x3C4, 2, 0x0E04 if access == CHAIN_4 else 0x0604)
    board.ports.write(0x3CE, 2, 0xFF08)
    board.ports.write(0x3CE, 2, 0x1005 if access == ODD_EVEN else 0x0005)
    board.ports.write(0x3CE, 2, misc << 8 | 6)
    offsets = np.arange(0, 0x1FFF8, 37, dtype=np.uint64)
    window = board.vga.legacy_memory[0][1]
    assert window.take_run is not None
    values = np.full(len(offsets), 0x1122334455667788, np.uint64)
    for size in (1, 8):
        sizes = np.full(len(offsets), size, np.uint32)
        window.take_run(WriteRun.of(offsets, sizes, values))
    for offset in (0, 0x7FFF, 0xFFF8, 0xFFFF, 0x10000, 0x1FFF8, 0x1FFFF):
        board.memory.write(WINDOW + offset, 8, 0)
        board.memory.read(WINDOW + offset, 8)
    assert len(board.vga.vram) == VRAM


@pytest.mark.parametrize("bpp", [4, 8, 15, 16, 24, 32])
def test_registers_changed_behind_a_mode_do_not_lead_outside(bpp: int) -> None:
    """CVE-2016-3712: CRTC registers changed after the mode was set sent the display outside."""
    board = Board(256 << 10)
    board.ports.write(0x3C2, 1, 0x67)
    board.mode(1024, 768, bpp)
    for index in range(0x20):
        board.ports.write(0x3D4, 2, 0xFF00 | index)
    height, width = board.get(INDEX_YRES), board.get(INDEX_XRES)
    assert board.vga.render().shape == (height, width, 3)
    board.put(INDEX_ENABLE, 0)
    for index in range(0x20):
        board.ports.write(0x3D4, 2, 0xFF00 | index)
    assert board.vga.render().shape[2] == 3


def test_a_picture_that_wraps_at_the_end_of_video_memory() -> None:
    """CVE-2014-8106 and 2018-5683: the end of the picture was not checked, only its start."""
    board = Board(256 << 10)
    board.mode(640, 409, 8)
    vbe = board.vga.vbe
    board.vga.vram[:] = 1
    board.vga.vga.registers.palette[3:6] = bytes((63, 0, 0))
    for start in (0, 640, (256 << 10) - 4):
        vbe.start = start
        assert (board.vga.render() == (255, 0, 0)).all()


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("dispi"), st.integers(0, 12), st.integers(0, 0xFFFF)),
            st.tuples(
                st.just("dispi"), st.just(INDEX_ENABLE), st.sampled_from([0, 1, 0x41, 0x81, 0x21])
            ),
            st.tuples(st.just("dispi"), st.just(3), st.sampled_from([4, 8, 15, 16, 24, 32])),
            st.tuples(st.just("port"), st.integers(0x3C0, 0x3DF), st.integers(0, 0xFFFF)),
            st.tuples(st.just("vbe port"), st.integers(0, 7), st.integers(0, (1 << 64) - 1)),
            st.tuples(st.just("memory"), st.integers(0, 0x1FFFF), st.integers(0, (1 << 64) - 1)),
        ),
        max_size=25,
    ),
    st.integers(1, 8),
)
def test_no_access_raises(accesses: list[tuple[str, int, int]], size: int) -> None:
    board = Board(256 << 10)
    for kind, where, value in accesses:
        if kind == "dispi":
            board.put(where, value)
        elif kind == "port":
            board.ports.write(where, 2, value)
        elif kind == "vbe port":
            board.ports.read(PORTS_BASE + where, size)
            board.ports.write(PORTS_BASE + where, size, value)
        else:
            board.memory.read(WINDOW + where, size)
            board.memory.write(WINDOW + where, size, value)
    picture = board.vga.render()
    assert picture.dtype == np.uint8
    if board.vga.vbe.enabled:
        assert picture.shape == (board.vga.vbe.registers[2], board.vga.vbe.registers[1], 3)
    assert board.vga.vga.memory.bank_offset < 256 << 10


# --- pictures ---


@pytest.mark.parametrize(
    ("bpp", "data", "colors"),
    [
        (8, "0102", [(255, 0, 0), (0, 255, 0)]),
        (15, "007c e003", [(255, 0, 0), (0, 255, 0)]),
        (16, "00f8 e007", [(255, 0, 0), (0, 255, 0)]),
        (24, "332211 665544", [(0x11, 0x22, 0x33), (0x44, 0x55, 0x66)]),
        (32, "332211ff 66554400", [(0x11, 0x22, 0x33), (0x44, 0x55, 0x66)]),
        (4, "80400000 ", [(255, 0, 0), (0, 255, 0)]),
    ],
)
def test_pixels(bpp: int, data: str, colors: list[tuple[int, ...]]) -> None:
    board = Board()
    board.mode(64, 4, bpp)
    registers = board.vga.vga.registers
    registers.palette[3:9] = bytes((63, 0, 0, 0, 63, 0))
    registers.ar[:16] = bytes(range(16))
    registers.ar[0x12] = 0x0F
    start = 64 * (16 if bpp == 15 else bpp) // 8  # the second line
    content = np.frombuffer(bytes.fromhex(data), np.uint8)
    board.vga.vram[start : start + len(content)] = content
    picture = board.vga.render()
    assert picture.shape == (4, 64, 3)
    assert picture[1, :2].tolist() == [list(color) for color in colors]
    assert not picture[0].any()


def test_virtual_width_and_offsets_choose_the_part_that_is_seen() -> None:
    board = Board()
    board.mode(64, 48, 32)
    board.put(INDEX_VIRT_WIDTH, 128)
    pixels = board.vga.vram.view("<u4")[: 128 * 100].reshape(100, 128)
    pixels[:] = np.arange(128 * 100).reshape(100, 128)
    board.put(INDEX_X_OFFSET, 10)
    board.put(INDEX_Y_OFFSET, 20)
    seen = board.vga.render().astype(np.uint32)
    numbers = seen[:, :, 0] << 16 | seen[:, :, 1] << 8 | seen[:, :, 2]
    assert (numbers == pixels[20:68, 10:74]).all()


def test_eight_bits_of_the_dac_count_if_asked_for() -> None:
    board = Board()
    board.vga.vga.registers.palette[0:3] = bytes((0x81, 0x40, 0x3F))
    board.mode(64, 4, 8, 0x41)
    assert board.vga.render()[0, 0].tolist() == [0x04, 0x00, 0xFF]
    board.mode(64, 4, 8, 0x61)
    assert board.vga.render()[0, 0].tolist() == [0x81, 0x40, 0x3F]


def test_blank_until_the_palette_is_on() -> None:
    board = Board()
    board.mode(64, 4, 32)
    board.vga.vram[:] = 0xFF
    assert board.vga.render().all()
    board.vga.vga.registers.ar_index = 0
    assert not board.vga.render().any()


def test_state_tells_modes_and_banks_apart_and_reset_ends_them() -> None:
    board = Board()
    fresh = {
        name: bytes(value) if not isinstance(value, int) else value
        for name, value in board.vga.state().items()
    }
    board.put(INDEX_BANK, 2)
    assert board.vga.state()["vbe_bank_offset"] == 2 << 16
    board.mode(64, 4, 8)
    assert board.vga.state()["vbe_registers"] != fresh["vbe_registers"]
    board.vga.reset()
    assert not board.vga.vbe.enabled
    assert board.vga.vga.memory.sr is board.vga.vga.registers.sr
    assert {
        name: bytes(value) if not isinstance(value, int) else value
        for name, value in board.vga.state().items()
    } == fresh
