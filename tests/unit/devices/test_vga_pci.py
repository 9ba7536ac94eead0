"""The VGA on PCI and its relatives: framebuffer, registers in memory, EDID."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.write_run import WriteRun
from coalesced.devices.vga import IsaVga, PciVga, VgaMm
from coalesced.devices.vga.edid import edid
from helpers.pci_bus import pci_bus

VRAM = 1 << 20
LINEAR = 0xE0000000
MMIO = 0xFEBF0000
PORTS = MMIO + 0x400
DISPI = MMIO + 0x500
EXTENSION = MMIO + 0x600


class Board:
    """A `VGA` in slot 2, its BARs mapped as firmware does it."""

    def __init__(self, vram_size: int = VRAM) -> None:
        self.memory = AddressSpace("memory", 1 << 64, 0)
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        self.vga = PciVga(vram_size)
        pci_bus(self.memory, self.ports).add(self.vga, 2)
        self.vga.config_write(0x10, 4, LINEAR)
        self.vga.config_write(0x18, 4, MMIO)
        self.vga.config_write(0x04, 2, 3)

    def read(self, address: int, *sizes: int) -> tuple[int, ...]:
        return tuple(self.memory.read(address, size) for size in sizes)


def test_identity() -> None:
    board = Board(16 << 20)
    assert board.vga.name == "VGA"
    assert board.vga.config_read(0, 4) == 0x11111234
    assert board.vga.config_read(8, 4) == 0x03000002
    for register, ones in ((0x10, 0xFF000008), (0x18, 0xFFFFF000), (0x30, 0xFFFF0001)):
        board.vga.config_write(register, 4, 0xFFFFFFFF)
        assert board.vga.config_read(register, 4) == ones


def test_legacy_addresses_do_not_depend_on_the_command_register() -> None:
    board = Board()
    board.vga.config_write(4, 2, 0)
    board.ports.write(0x3C4, 2, 0x0F02)
    board.ports.write(0x3CE, 2, 0xFF08)
    board.memory.write(0xA0001, 1, 0x5A)
    assert board.vga.vram[4:8].tolist() == [0x5A] * 4
    board.ports.write(0x1CE, 2, 10)
    assert board.ports.read(0x1CF, 2) == VRAM >> 16


# --- BAR 0 ---


def test_the_framebuffer_is_plain_bytes() -> None:
    board = Board()
    board.memory.write(LINEAR + 1, 8, 0x8877665544332211)
    board.memory.write(LINEAR + VRAM - 1, 1, 0x99)
    assert board.vga.vram[:9].tobytes() == bytes.fromhex("001122334455667788")
    assert board.read(LINEAR + 2, 1, 2, 3, 4, 8) == (
        0x22,
        0x3322,
        0x443322,
        0x55443322,
        0x0088776655443322,
    )
    assert board.vga.vram[-1] == 0x99


def test_the_whole_framebuffer_may_be_queued() -> None:
    board = Board()
    region = board.memory.region_at(LINEAR)
    assert region is not None
    assert region.coalesced == ((0, VRAM),)
    assert region.take_run is not None


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 100), st.integers(VRAM - 64, VRAM - 8)),
            st.integers(1, 8),
            st.integers(0, (1 << 64) - 1),
        ),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0, 1, 2, 4, 8]),
)
def test_runs_equal_single_writes(writes: list[tuple[int, int, int]], same_size: int) -> None:
    if same_size:
        writes = [(at & -same_size, same_size, value) for at, _, value in writes]
    one, other = Board(), Board()
    for offset, size, value in writes:
        one.memory.write(LINEAR + offset, size, value)
    region = other.memory.region_at(LINEAR)
    assert region is not None
    assert region.take_run is not None
    offsets, sizes, values = zip(*writes, strict=True)
    run = WriteRun.of(
        np.array(offsets, np.uint64), np.array(sizes, np.uint32), np.array(values, np.uint64)
    )
    taken = region.take_run(run)
    assert taken == len(writes)
    assert (one.vga.vram == other.vga.vram).all()


# --- BAR 2 ---


def test_vga_ports_in_memory() -> None:
    board = Board()
    assert board.read(PORTS + 0x10, 1, 2, 4) == (0xFF, 0xFFFF, 0xFFFFFFFF)
    board.memory.write(PORTS + 2, 1, 0x67)  # the CRTC to 0x3dx
    assert board.read(PORTS + 0x0C, 1) == (0x67,)
    assert board.read(PORTS + 0x1C, 1, 2, 4) == (0, 0, 0)
    board.memory.write(PORTS + 4, 2, 0x0F02)
    board.memory.write(PORTS + 0x0E, 2, 0x5508)
    board.memory.write(PORTS + 0x14, 2, 0x7712)
    assert board.ports.read(0x3C5, 1) == 0x0F
    assert board.ports.read(0x3CF, 1) == 0x55
    assert board.ports.read(0x3D5, 1) == 0x77
    assert board.read(PORTS + 4, 4) == (0x00000F02,)


def test_dispi_registers_in_memory() -> None:
    board = Board()
    board.memory.write(DISPI + 2, 2, 640)
    board.memory.write(DISPI + 4, 4, 0x000801E0)
    assert [board.read(DISPI + 2 * index, 2)[0] for index in range(4)] == [0xB0C5, 640, 480, 8]
    assert board.read(DISPI, 4, 8) == (0x0280B0C5, 0x000801E00280B0C5)
    assert board.ports.read(0x1CE, 2) == 3, "the index is shared with the ports"
    assert board.read(DISPI, 1) == board.read(DISPI + 1, 1) == (0xC5,)
    assert board.read(DISPI + 0x14, 2, 4) == (VRAM >> 16, VRAM >> 16)
    assert board.read(DISPI + 0x16, 2) == (0xFFFF,)


def test_the_extension_registers() -> None:
    board = Board()
    assert board.read(EXTENSION, 1, 2, 4, 8) == (0, 0, 8, 0x1E1E1E1E00000008)
    board.memory.write(EXTENSION + 4, 4, 0xBEBEBEBE)
    board.memory.write(EXTENSION + 4, 4, 0x12345678)
    board.memory.write(EXTENSION + 4, 2, 0x1E1E)
    assert board.read(EXTENSION + 4, 4) == (0xBEBEBEBE,)
    assert board.vga.state()["big_endian"] == 1
    board.vga.reset()
    assert board.vga.state()["big_endian"] == 0


@pytest.mark.parametrize("offset", [0x180, 0x3F8, 0x420, 0x4FC, 0x516, 0x520, 0x608, 0xFF8])
def test_holes_read_as_ones(offset: int) -> None:
    assert Board().read(MMIO + offset, 1, 2) == (0xFF, 0xFFFF)


def test_big_endian_pixels() -> None:
    board = Board()
    for index, value in ((1, 64), (2, 4), (3, 16), (4, 0x41)):
        board.memory.write(DISPI + 2 * index, 2, value)
    board.memory.write(PORTS, 1, 0x20)
    board.memory.write(LINEAR, 2, 0x00F8)
    board.memory.write(EXTENSION + 4, 4, 0xBEBEBEBE)
    assert board.vga.render()[0, 0].tolist() == [255, 0, 0]
    board.memory.write(DISPI + 6, 2, 32)
    board.memory.write(LINEAR, 4, 0x33221100)
    assert board.vga.render()[0, 0].tolist() == [0x11, 0x22, 0x33]


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.integers(0, 0xFFF),
                st.integers(0x3FC, 0x424),
                st.integers(0x4FC, 0x520),
                st.integers(0x5FC, 0x60C),
            ),
            st.integers(1, 8),
            st.integers(0, (1 << 64) - 1),
        ),
        max_size=25,
    )
)
def test_no_access_raises(accesses: list[tuple[bool, int, int, int]]) -> None:
    board = Board(256 << 10)
    for write, offset, size, value in accesses:
        if write:
            board.memory.write(MMIO + offset, size, value)
        else:
            assert 0 <= board.memory.read(MMIO + offset, size) < 1 << 8 * size
    assert board.vga.render().shape[2] == 3
    assert board.vga.state()["config"] == bytes(board.vga.config)


# --- EDID ---


def test_the_edid_can_be_read_in_any_size() -> None:
    board = Board()
    whole = bytes(board.read(MMIO + at, 1)[0] for at in range(0x180))
    assert whole == edid() + bytes(0x80)
    board.memory.write(MMIO, 8, 0)
    assert board.read(MMIO, 8) == (0x00FFFFFFFFFFFF00,)
    assert board.read(MMIO + 7, 8) == (int.from_bytes(whole[7:15], "little"),)


def test_the_edid_is_well_formed() -> None:
    base, extension = edid()[:128], edid()[128:]
    assert sum(base) & 0xFF == sum(extension) & 0xFF == 0
    assert base[:8] == b"\0\xff\xff\xff\xff\xff\xff\0"
    assert base[18:20] == bytes((1, 4))
    assert base[126] == 1
    assert extension[:2] == bytes((2, 3))
    assert b"QEMU Monitor\n" in base


def test_the_preferred_mode_is_1280_by_800_at_75_hz() -> None:
    timing = edid()[54:72]
    clock = int.from_bytes(timing[:2], "little") * 10_000
    width, height = timing[2] | timing[4] >> 4 << 8, timing[5] | timing[7] >> 4 << 8
    line = width + (timing[3] | (timing[4] & 0x0F) << 8)
    lines = height + (timing[6] | (timing[7] & 0x0F) << 8)
    assert (width, height) == (1280, 800)
    assert round(clock / line / lines) == 75


def test_checksums_are_what_qemu_has() -> None:
    assert (edid()[127], edid()[255]) == (0x3A, 0x2F)


# --- state, relatives ---


def test_reset_ends_everything_but_video_memory() -> None:
    board = Board()
    board.memory.write(LINEAR + 7, 1, 0x77)
    board.memory.write(DISPI + 8, 2, 0x81)
    board.vga.reset()
    fresh = PciVga(VRAM)
    fresh.vram[7] = 0x77
    assert {k: v if isinstance(v, int) else bytes(v) for k, v in board.vga.state().items()} == {
        k: v if isinstance(v, int) else bytes(v) for k, v in fresh.state().items()
    }
    assert board.memory.region_at(LINEAR) is None


def test_text_is_left_alone() -> None:
    board = Board()
    assert board.vga.text() == []
    board.memory.write(DISPI + 8, 2, 0x81)
    assert board.vga.text() is None


def test_isa_vga_has_a_linear_framebuffer_too() -> None:
    vga = IsaVga(VRAM)
    memory = AddressSpace("memory", 1 << 64, 0)
    for base, region, priority in vga.legacy_memory:
        memory.map(region, base, priority)
    memory.write(LINEAR + 4, 4, 0x11223344)
    assert vga.name == "isa-vga"
    assert vga.vram.view("<u4")[1] == 0x11223344
    assert vga.text() == []


@pytest.mark.parametrize("shift", [0, 2])
def test_registers_in_memory_by_shift(shift: int) -> None:
    vga = VgaMm(0x60000000, 0x40000000, shift, VRAM)
    memory = AddressSpace("memory", 1 << 64, 0)
    for base, region, priority in vga.legacy_memory:
        memory.map(region, base, priority)
    assert vga.legacy_ports == []

    def register(port: int) -> int:
        return 0x60000000 + (port << shift)

    for port, value in ((0x3C4, 2), (0x3C5, 0x0F), (0x3CE, 8), (0x3CF, 0xFF), (0x3C2, 0x67)):
        memory.write(register(port), 1, value)
    memory.write(register(0x3CE), 2, 0x0108)  # one register, whatever the size
    assert memory.read(register(0x3CF), 4) == 0xFF
    assert memory.read(register(0x3B4), 1) == 0xFF
    assert memory.read(register(0x3D8), 1) == 0
    assert memory.read(0x60000000, 8) == 0
    memory.write(0x400A0003, 1, 0x5A)
    assert vga.vram[12:16].tolist() == [0x5A] * 4
    assert vga.render().shape == (480, 640, 3)
    assert vga.text() == []
    vga.reset()
    assert vga.state()["misc"] == 0


def memory_mapped(shift: int) -> tuple[VgaMm, AddressSpace]:
    vga = VgaMm(0x60000000, 0x40000000, shift, VRAM)
    memory = AddressSpace("memory", 1 << 64, 0)
    for base, region, priority in vga.legacy_memory:
        memory.map(region, base, priority)
    return vga, memory


def test_an_unaligned_access_reaches_a_register_in_each_aligned_step() -> None:
    vga, memory = memory_mapped(0)
    base = 0x60000000
    for port, value in ((0x3C2, 0x67), (0x3C4, 0x02), (0x3C5, 0x0B), (0x3CE, 0x08), (0x3CF, 0x5A)):
        memory.write(base + port, 1, value)
    # 0x3c1 by itself, 0x3c2 and 0x3c3 in one step that is 0x3c2's, then 0x3c4.
    status = memory.read(base + 0x3C2, 1)
    assert memory.read(base + 0x3C1, 4) == vga.vga.registers.ar[0] | status << 8 | 0x02 << 24
    assert memory.read(base + 0x3C5, 2) == 0x0B  # above it 0x3c6, which reads 0
    assert memory.read(base + 0x3CC, 4) == 0x67
    memory.write(base + 0x3C5, 2, 0xFF0D)
    assert vga.vga.registers.sr[2] == 0x0D


def test_video_memory_of_the_memory_mapped_one_lies_behind_what_was_placed() -> None:
    vga, memory = memory_mapped(2)
    memory.write(LINEAR + VRAM - 4, 4, 0x44332211)
    assert vga.vram[-4:].tolist() == [0x11, 0x22, 0x33, 0x44]
    assert memory.read(LINEAR + VRAM - 3, 2) == 0x3322
    vga = VgaMm(LINEAR, 0x40000000, 0, VRAM)
    memory = AddressSpace("memory", 1 << 64, 0)
    for base, region, priority in reversed(vga.legacy_memory):
        memory.map(region, base, priority)
    memory.write(LINEAR + 0x3C2, 1, 0x67)
    assert vga.vga.registers.misc == 0x67


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, (1 << 20) - 8), st.integers(1, 8), st.integers(0, (1 << 64) - 1)),
        max_size=20,
    ),
    st.integers(0, 10),
)
def test_no_access_of_the_memory_mapped_one_raises(
    accesses: list[tuple[int, int, int]], shift: int
) -> None:
    vga = VgaMm(0, 1 << 32, shift, 256 << 10)
    registers, window, _ = (region for _, region, _ in vga.legacy_memory)
    for offset, size, value in accesses:
        registers.write(offset, size, value)
        registers.read(offset, size)
        window.write(offset & 0x1FFF7, size, value)
        window.read(offset & 0x1FFF7, size)


def test_an_impossible_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="it_shift of 0 to 10, got 11"):
        VgaMm(0, 0, 11)
