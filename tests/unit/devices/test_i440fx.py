"""Ports 0xcf8 to 0xcff. Answers are QEMU 7.2's, but for accesses that begin at 0xcf9."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.i440fx import AREAS, Area, I440fx
from coalesced.vmm.machine import Machine
from helpers.pci_bus import pci_bus
from helpers.vmm_fake import FakeAccelerator, Queued, in_, out

ADDRESS = 0xCF8
RESET = 0xCF9
DATA = 0xCFC


class Board:
    """A host bridge alone on its bus, in a machine whose guest is a script."""

    def __init__(self, *script: Queued | tuple[int, int, int, bool, int]) -> None:
        self.accel = FakeAccelerator(script)
        self.machine = Machine(self.accel)
        self.resets = 0
        self.ram: dict[int, int] = {}  # that is shown: size by start
        self.host = I440fx(ram_size=16 << 20, reset_machine=self.reset, show_ram=self.show_ram)
        bus = pci_bus(self.machine.memory, self.machine.ports)
        bus.add(self.host, 0)
        self.machine.add_device(self.host)
        self.ports = self.machine.ports

    def show_ram(self, area: Area, shown: bool) -> None:
        if shown:
            assert area.start not in self.ram
            self.ram[area.start] = area.size
        else:
            assert self.ram.pop(area.start) == area.size

    def reset(self) -> None:
        self.resets += 1
        self.host.reset()


def test_identity() -> None:
    host = Board().host
    assert host.config_read(0, 4) == 0x12378086
    assert host.config_read(8, 4) == 0x06000002
    assert host.config_read(0x54, 4) == 0x02000000  # 16 MiB in units of 8
    assert host.config_read(0x70, 4) == 0x00020000


@pytest.mark.parametrize(
    ("port", "answers"),
    [
        (0xCF8, (0x03, 0x4503, 0x81004503)),
        (0xCFA, (0x03, 0x4503, 0xFFFF4503)),
        (0xCFB, (0x03, 0xFF03, 0xFFFFFF03)),
    ],
)
def test_the_address_reads_from_its_lowest_byte_on(port: int, answers: tuple[int, ...]) -> None:
    board = Board()
    board.ports.write(ADDRESS, 4, 0x81004503)
    assert tuple(board.ports.read(port, size) for size in (1, 2, 4)) == answers


def test_only_a_whole_dword_is_an_address() -> None:
    board = Board()
    board.ports.write(ADDRESS, 4, 0x80000000)
    for port, size in ((0xCF8, 1), (0xCF8, 2), (0xCFA, 1), (0xCFA, 2), (0xCFB, 1)):
        board.ports.write(port, size, 0x11)
    assert board.ports.read(ADDRESS, 4) == 0x80000000


@pytest.mark.parametrize(
    ("low", "port", "size", "value"),
    [
        (0, 0xCFC, 4, 0x12378086),
        (0, 0xCFE, 2, 0x1237),
        (2, 0xCFC, 2, 0x1237),
        (2, 0xCFC, 4, 0x00001237),
        (3, 0xCFC, 1, 0x12),
        (2, 0xCFD, 1, 0x12),
        (2, 0xCFD, 2, 0x3712),
        (2, 0xCFE, 1, 0x37),
        (3, 0xCFF, 1, 0x12),
        (0xFF, 0xCFC, 4, 0x00000000),
    ],
)
def test_low_address_bits_and_the_port_are_ored(low: int, port: int, size: int, value: int) -> None:
    board = Board()
    board.ports.write(ADDRESS, 4, 0x80000000 | low)
    assert board.ports.read(port, size) == value


@pytest.mark.parametrize("address", [0x00000000, 0x80010000, 0x80FF0000, 0x80000100, 0x80000800])
def test_nothing_there_reads_as_ones(address: int) -> None:
    board = Board()
    board.ports.write(ADDRESS, 4, address)
    board.ports.write(DATA, 4, 0)
    assert board.ports.read(DATA, 4) == 0xFFFFFFFF


def test_writes_reach_the_selected_bytes() -> None:
    board = Board()
    board.ports.write(ADDRESS, 4, 0x80000058)
    board.ports.write(DATA, 4, 0x11223344)
    board.ports.write(DATA + 1, 1, 0xAA)
    board.ports.write(DATA + 2, 2, 0xBBCC)
    assert board.ports.read(DATA, 4) == 0xBBCCAA44


# --- memory attributes and SMRAM ---


def test_the_areas_fill_the_hole_below_high_memory() -> None:
    bytes_of = sorted((area.start, area.start + area.size) for area in AREAS)
    assert bytes_of[0][0] == 0xA0000
    assert bytes_of[-1][1] == 0x100000
    assert all(end == start for (_, end), (start, _) in pairwise(bytes_of))


@pytest.mark.parametrize("nibble", range(16))
@pytest.mark.parametrize(
    ("register", "shift", "start", "size"),
    [
        (0x59, 4, 0xF0000, 0x10000),
        *((0x5A + i // 2, 4 * (i & 1), 0xC0000 + 0x4000 * i, 0x4000) for i in range(12)),
    ],
)
def test_one_of_two_attribute_bits_puts_ram_there(
    register: int, shift: int, start: int, size: int, nibble: int
) -> None:
    board = Board()
    assert board.ram == {}
    board.host.config_write(register, 1, nibble << shift)
    assert board.ram == ({start: size} if nibble & 3 else {})
    board.host.config_write(register, 1, 0)
    assert board.ram == {}


@pytest.mark.parametrize("value", range(0, 0x100, 2))
def test_smram_bit_6_alone_opens_the_video_window(value: int) -> None:
    board = Board()
    board.host.config_write(0x72, 1, value)
    assert board.ram == ({0xA0000: 0x20000} if value & 0x40 else {})
    board.host.config_write(0x72, 1, value ^ 0x40)
    assert board.ram == ({} if value & 0x40 else {0xA0000: 0x20000})  # bit 4 locks nothing


def test_a_write_of_several_registers_moves_what_differs() -> None:
    board = Board()
    board.host.config_write(0x58, 4, 0x30300F00)
    assert board.ram == {0xC4000: 0x4000, 0xCC000: 0x4000}
    board.host.config_write(0x5A, 2, 0x0330)
    assert board.ram == {0xC4000: 0x4000, 0xC8000: 0x4000}
    board.host.config_write(0x54, 4, 0xFFFFFFFF)
    board.host.config_write(0x73, 1, 0xFF)
    assert len(board.ram) == 2


def test_reset_keeps_ram_where_it_is() -> None:
    board = Board()
    board.host.config_write(0x59, 1, 0x10)
    board.host.reset()
    assert board.ram == {0xF0000: 0x10000}


# --- the reset port ---


@pytest.mark.parametrize(
    ("value", "resets", "reads"), [(0x02, 0, 2), (0xFB, 0, 2), (0x04, 1, 0), (0x06, 1, 0)]
)
def test_the_reset_port(value: int, resets: int, reads: int) -> None:
    board = Board()
    board.ports.write(RESET, 1, value)
    assert board.resets == resets
    assert board.ports.read(RESET, 1) == reads


def test_reset_keeps_the_address_and_the_memory_attributes() -> None:
    board = Board()
    board.host.config_write(0x59, 1, 0x33)
    board.ports.write(ADDRESS, 4, 0x80000058)
    board.ports.write(RESET, 1, 0x06)
    assert board.ports.read(ADDRESS, 4) == 0x80000058
    assert board.host.config_read(0x59, 1) == 0x33


def test_without_somebody_to_reset_nothing_happens() -> None:
    host = I440fx()
    host.legacy_ports[0][1].write(1, 1, 0x06)
    assert host.reset_control == 0


# --- coalescing ---


def test_the_address_port_is_one_zone_and_the_data_port_flushes() -> None:
    board = Board()
    assert ("register", ADDRESS, 4, True) in board.accel.log
    address, data = (region for _, region, _ in board.host.legacy_ports)
    assert data.flush
    assert not data.coalesced
    assert address.coalesced == ((0, 4),)


def test_a_queued_address_counts_before_the_data_port_is_read() -> None:
    board = Board(
        Queued(ADDRESS, 4, 0x80000000, port=True),
        in_(DATA, 4),
        Queued(ADDRESS, 4, 0x80000058, port=True),
        out(DATA, 0x33, 1),
        Queued(ADDRESS, 4, 0x80000008, port=True),
        in_(DATA, 4),
    )
    board.machine.run("script")
    assert board.accel.completed == [0x12378086, 0x06000002]
    assert board.host.config[0x58] == 0x33
    assert board.machine.counters.coalesced == 3


def test_a_queued_reset_waits_for_the_drain() -> None:
    board = Board(Queued(RESET, 1, 0x06, port=True))
    board.accel.put(Queued(RESET, 1, 0x06, port=True))
    assert board.resets == 0
    board.machine.run("script")
    assert board.resets == 2


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(ADDRESS - 4, DATA + 4),
            st.integers(1, 8),
            st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0x80000000, 0x800000FF])),
        ),
        max_size=20,
    )
)
def test_no_access_raises(accesses: list[tuple[bool, int, int, int]]) -> None:
    board = Board()
    for write, port, size, value in accesses:
        if write:
            board.ports.write(port, size, value)
        else:
            assert 0 <= board.ports.read(port, size) < 1 << 8 * size
