"""Configuration space, BARs that come and go, interrupt pins. Numbers are QEMU 7.2's answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.pci import (
    BASE_ADDRESS_0,
    CACHE_LINE_SIZE,
    COMMAND,
    INTERRUPT_LINE,
    INTERRUPT_PIN,
    ROM_ADDRESS,
    STATUS,
    Bar,
    PciFunction,
)
from coalesced.devices.bus.region import Region
from helpers.pci_bus import pci_bus

MEMORY_BAR = 0x10000
IO_BAR = 64
DECODE_ALL = 0x0003


def bar_of(name: str, size: int, answer: int, *, io: bool = False) -> Bar:
    """A BAR that reads as one byte everywhere."""
    value = int.from_bytes(bytes((answer,)) * 8, "little")
    return Bar(Region(name, size, lambda _at, _size: value, lambda _at, _size, _value: None), io=io)


class Board:
    """A bus with one function of a memory and an I/O BAR in slot 3, and another in slot 4."""

    def __init__(self) -> None:
        self.memory = AddressSpace("memory", 1 << 64, 0x00)
        self.ports = AddressSpace("ports", 0x10000, 0xFF)
        self.irqs: list[tuple[int, bool]] = []
        self.bus = pci_bus(
            self.memory, self.ports, lambda irq, level: self.irqs.append((irq, level))
        )
        self.card = self.add("card", 3, 0x11)
        self.other = self.add("other", 4, 0x22)

    def add(self, name: str, slot: int, answer: int, pin: int = 1) -> PciFunction:
        function = PciFunction(
            name=name,
            vendor_id=0x8086,
            device_id=0x100E,
            class_code=0x020000,
            revision=3,
            bars={
                0: bar_of(f"{name}-memory", MEMORY_BAR, answer),
                1: bar_of(f"{name}-io", IO_BAR, answer, io=True),
            },
            interrupt_pin=pin,
            rom_size=0x40000,
        )
        self.bus.add(function, slot)
        return function


def place(function: PciFunction, bar: int, address: int, command: int = DECODE_ALL) -> None:
    function.config_write(BASE_ADDRESS_0 + 4 * bar, 4, address)
    function.config_write(COMMAND, 2, command)


# --- configuration space ---


@pytest.mark.parametrize(
    ("offset", "at_reset", "after_ones"),
    [
        (0x00, 0x100E8086, 0x100E8086),
        (COMMAND, 0x00000000, 0x00000507),
        (0x08, 0x02000003, 0x02000003),
        (CACHE_LINE_SIZE, 0x00000000, 0x000000FF),
        (0x10, 0x00000000, 0xFFFF0000),
        (0x14, 0x00000001, 0xFFFFFFC1),
        (0x18, 0x00000000, 0x00000000),
        (0x2C, 0x11001AF4, 0x11001AF4),
        (ROM_ADDRESS, 0x00000000, 0xFFFC0001),
        (0x34, 0x00000000, 0x00000000),
        (INTERRUPT_LINE, 0x00000100, 0x000001FF),
        (0x40, 0x00000000, 0xFFFFFFFF),
        (0xFC, 0x00000000, 0xFFFFFFFF),
    ],
)
def test_bits_that_stick(offset: int, at_reset: int, after_ones: int) -> None:
    board = Board()
    assert board.bus.config_read(3, 0, offset, 4) == at_reset
    board.bus.config_write(3, 0, offset, 4, 0xFFFFFFFF)
    assert board.bus.config_read(3, 0, offset, 4) == after_ones
    board.bus.config_write(3, 0, offset, 4, 0)
    assert board.bus.config_read(3, 0, offset, 4) == at_reset


@pytest.mark.parametrize(("slot", "function"), [(0, 0), (5, 0), (31, 7), (3, 1)])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_absent_functions_read_as_ones(slot: int, function: int, size: int) -> None:
    board = Board()
    board.bus.config_write(slot, function, COMMAND, size, 0)
    assert board.bus.config_read(slot, function, 0, size) == (1 << 8 * size) - 1


def test_narrow_writes_change_their_bytes_alone() -> None:
    board = Board()
    board.card.config_write(0x40, 4, 0x44332211)
    board.card.config_write(0x41, 2, 0xBBAA)
    assert board.card.config_read(0x40, 4) == 0x44BBAA11
    assert board.card.config_read(0x43, 1) == 0x44


def test_past_its_end_the_space_reads_as_zero() -> None:
    card = Board().card
    card.config_write(0xFF, 4, 0x12345678)
    assert card.config_read(0xFF, 4) == 0x78
    assert len(card.config) == 256


def test_reset_keeps_device_specific_bytes_only() -> None:
    board = Board()
    place(board.card, 0, 0xE0000000, 0x107)
    board.card.config_write(INTERRUPT_LINE, 1, 11)
    board.card.config_write(0x40, 4, 0x55AA55AA)
    board.card.set_interrupt(True)
    board.card.reset()
    assert board.memory.region_at(0xE0000000) is None
    assert board.card.config_read(0x40, 4) == 0x55AA55AA
    fresh = Board().card
    fresh.config_write(0x40, 4, 0x55AA55AA)
    assert board.card.state() == fresh.state()
    assert board.irqs == [(11, True), (11, False)]


# --- base addresses ---


def test_decode_bits_turn_each_kind_on() -> None:
    board = Board()
    place(board.card, 0, 0xE0000000, 0)
    place(board.card, 1, 0xC000, 0)
    seen = []
    for command in (0, 1, 2, 3, 0):
        board.card.config_write(COMMAND, 2, command)
        seen.append((board.memory.read(0xE0000000, 1), board.ports.read(0xC000, 1)))
    assert seen == [(0, 0xFF), (0, 0x11), (0x11, 0xFF), (0x11, 0x11), (0, 0xFF)]


def test_a_bar_moves_with_each_byte_written() -> None:
    board = Board()
    place(board.card, 0, 0xE0000000)
    board.card.config_write(0x13, 1, 0xE1)
    assert board.memory.read(0xE0000000, 1) == 0
    assert board.memory.read(0xE1000000, 1) == 0x11
    board.card.config_write(0x12, 2, 0xE280)
    assert board.memory.read(0xE280FFFF, 1) == 0x11
    assert board.memory.read(0xE2810000, 1) == 0


@pytest.mark.parametrize("address", [0x0, 0x1, 0xFFFF, 0xFFFF0000, 0xFFFFFFFF])
def test_addresses_that_a_memory_bar_does_not_decode(address: int) -> None:
    board = Board()
    place(board.card, 0, address)
    assert board.card.bar_address(0) is None
    assert all(flat.mapping is None for flat in board.memory.flat())


@pytest.mark.parametrize("address", [0x0, 0x3F, 0x10000, 0xFFFFFFC0, 0xE000C000])
def test_addresses_that_an_io_bar_does_not_decode(address: int) -> None:
    board = Board()
    place(board.card, 1, address)
    assert all(flat.mapping is None for flat in board.ports.flat())


def test_the_last_ports_can_be_decoded() -> None:
    board = Board()
    place(board.card, 1, 0xFFC0)
    assert board.ports.read(0xFFFF, 1) == 0x11


def test_where_bars_overlap_the_last_one_mapped_answers() -> None:
    board = Board()
    place(board.card, 0, 0xE0000000)
    place(board.other, 0, 0xE0000000)
    assert board.memory.read(0xE0000000, 1) == 0x22
    place(board.card, 0, 0xE1000000)
    place(board.card, 0, 0xE0000000)
    assert board.memory.read(0xE0000000, 1) == 0x11
    board.card.config_write(COMMAND, 2, 0)
    assert board.memory.read(0xE0000000, 1) == 0x22


def test_an_unchanged_bar_is_not_mapped_anew() -> None:
    board = Board()
    place(board.card, 0, 0xE0000000)
    changes: list[None] = []
    board.memory.on_change(lambda: changes.append(None), lambda: None)
    board.card.config_write(0x10, 4, 0xE000FFFF)
    board.card.config_write(COMMAND, 2, DECODE_ALL | 4)
    assert not changes


def test_an_io_bar_hides_legacy_ports() -> None:
    board = Board()
    legacy = bar_of("legacy", 16, 0x33, io=True).region
    board.ports.map(legacy, 0xC000)
    place(board.card, 1, 0xC000)
    assert board.ports.read(0xC000, 1) == 0x11


def test_legacy_regions_answer_without_decoding() -> None:
    board = Board()
    card = PciFunction(name="legacy", vendor_id=1, device_id=2, class_code=3)
    card.legacy_memory.append((0xA0000, bar_of("window", 16, 0x44).region, 1))
    card.legacy_ports.append((0x3C0, bar_of("ports", 16, 0x55, io=True).region, 0))
    board.bus.add(card, 2)
    assert board.memory.read(0xA0000, 1) == 0x44
    assert board.ports.read(0x3C0, 1) == 0x55


# --- interrupts ---


@pytest.mark.parametrize(
    ("slot", "pin", "irq"), [(3, 1, 11), (2, 1, 10), (1, 1, 10), (4, 1, 11), (3, 2, 11), (3, 3, 10)]
)
def test_pins_reach_lines_by_slot(slot: int, pin: int, irq: int) -> None:
    memory, ports = AddressSpace("m", 1 << 64, 0), AddressSpace("p", 0x10000, 0xFF)
    irqs: list[tuple[int, bool]] = []
    bus = pci_bus(memory, ports, lambda number, level: irqs.append((number, level)))
    card = PciFunction(name="x", vendor_id=1, device_id=1, class_code=1, interrupt_pin=pin)
    bus.add(card, slot)
    card.set_interrupt(True)
    card.set_interrupt(True)
    card.set_interrupt(False)
    assert card.config_read(INTERRUPT_PIN, 1) == pin
    assert irqs == [(irq, True), (irq, False)]


@pytest.mark.parametrize(("cause", "raised"), [(1, True), (4, True), (-1, True), (0, False)])
def test_the_bits_of_a_cause_drive_the_pin(cause: int, raised: bool) -> None:
    board = Board()
    before = board.card.config_read(STATUS, 2)
    board.card.set_interrupt(not raised)
    board.card.set_interrupt(cause)
    assert board.card.config_read(STATUS, 2) == before | 0x0008 * raised
    assert bool(board.irqs and board.irqs[-1][1]) is raised


def test_a_shared_line_falls_with_the_last_pin() -> None:
    board = Board()
    board.card.set_interrupt(True)
    board.other.set_interrupt(True)
    board.card.set_interrupt(False)
    assert board.irqs == [(11, True)]
    board.other.set_interrupt(False)
    assert board.irqs == [(11, True), (11, False)]


def test_intx_disable_lowers_the_line_but_not_the_status() -> None:
    board = Board()
    board.card.set_interrupt(True)
    board.card.config_write(COMMAND, 2, 0x400)
    assert board.irqs == [(11, True), (11, False)]
    assert board.card.config_read(STATUS, 2) == 0x0008
    board.card.config_write(COMMAND, 2, 0)
    assert board.irqs[-1] == (11, True)


def test_without_a_pin_only_the_status_changes() -> None:
    board = Board()
    card = PciFunction(name="x", vendor_id=1, device_id=1, class_code=1)
    board.bus.add(card, 7)
    card.set_interrupt(True)
    assert board.irqs == []
    assert card.config_read(STATUS, 1) == 0x08


# --- misuse and abuse ---


def test_a_taken_or_impossible_slot_is_refused() -> None:
    board = Board()
    card = PciFunction(name="late", vendor_id=1, device_id=1, class_code=1)
    with pytest.raises(ValueError, match="slot 03 already holds 'card'"):
        board.bus.add(card, 3)
    with pytest.raises(ValueError, match="slot of 0 to 31, got 32"):
        board.bus.add(card, 32)


@pytest.mark.parametrize(("size", "io"), [(8, False), (0x1800, False), (2, True), (0x20000, True)])
def test_impossible_bar_sizes_are_refused(size: int, io: bool) -> None:
    with pytest.raises(ValueError, match="power of two"):
        bar_of("odd", size, 0, io=io)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([3, 4]),
            st.one_of(st.integers(0, 0x3F), st.sampled_from([4, 0x10, 0x13, 0x14]), st.just(254)),
            st.integers(1, 8),
            st.one_of(
                st.integers(0, (1 << 64) - 1),
                st.sampled_from([3, 0, 0xC000, 0xE0000000, 0xE0008000, 0xFFFFFFFF]),
            ),
        ),
        max_size=20,
    )
)
def test_what_is_mapped_follows_from_the_registers(
    writes: list[tuple[int, int, int, int]],
) -> None:
    """Whatever is written: one mapping per decoded BAR, at its address, and nothing raises."""
    board = Board()
    for slot, offset, size, value in writes:
        board.bus.config_write(slot, 0, offset, size, value)
        board.bus.config_read(slot, 0, offset, size)
    for function in (board.card, board.other):
        for number, space in ((0, board.memory), (1, board.ports)):
            address = function.bar_address(number)
            mapped = function._mapped.get(number)
            assert (None if mapped is None else mapped.base) == address
            if mapped is not None:
                space.unmap(mapped)
    assert all(flat.mapping is None for flat in board.memory.flat())
    assert all(flat.mapping is None for flat in board.ports.flat())


@pytest.mark.parametrize(
    ("what", "greatest"),
    [
        ("vendor_id", 0xFFFF),
        ("device_id", 0xFFFF),
        ("revision", 0xFF),
        ("class_code", 0xFFFFFF),
        ("subsystem_vendor_id", 0xFFFF),
        ("subsystem_id", 0xFFFF),
    ],
)
def test_a_number_that_its_register_cannot_hold_is_refused(what: str, greatest: int) -> None:
    numbers: dict[str, Any] = {"vendor_id": 1, "device_id": 2, "class_code": 3}
    PciFunction(name="card", **{**numbers, what: greatest})
    for wrong in (greatest + 1, -1):
        with pytest.raises(
            ValueError, match=f"^card: expected a {what} of 0 to {greatest:#x}, got "
        ):
            PciFunction(name="card", **{**numbers, what: wrong})
