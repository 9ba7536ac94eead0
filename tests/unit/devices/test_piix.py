"""The ISA bridge that routes PCI interrupts, and power management."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.piix4_pm import Piix4Pm
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import ISA, Board
from coalesced.vmm.machine import Machine

BASE = 0x600
HALF = 0x80_0000 * 1_000_000_000 // 3579545  # nanoseconds between changes of the timer's top bit


class Bench:
    def __init__(self, machine: Machine) -> None:
        self.board = Board(machine, 16 << 20)
        self.lines: list[tuple[int, bool]] = []
        self.board.on_irq = lambda irq, level: self.lines.append((irq, level))
        self.read, self.write = machine.ports.read, machine.ports.write
        self.board.clock.step(0)

    def config_write(self, function: int, offset: int, value: int, size: int = 1) -> None:
        self.write(0xCF8, 4, 0x8000_0800 | function << 8 | offset & 0xFC)
        self.write(0xCFC + (offset & 3), size, value)

    def config_read(self, function: int, offset: int, size: int = 1) -> int:
        self.write(0xCF8, 4, 0x8000_0800 | function << 8 | offset & 0xFC)
        return self.read(0xCFC + (offset & 3), size)

    def card(self, slot: int) -> PciFunction:
        card = PciFunction(
            name="card", vendor_id=1, device_id=2, class_code=0xFF0000, interrupt_pin=1
        )
        self.board.bus.add(card, slot)
        return card

    def place_pm(self) -> None:
        self.config_write(3, 0x40, BASE, 4)
        self.config_write(3, 0x80, 1)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Machine(DirectAccelerator()) as machine:
        yield Bench(machine)


def test_both_functions_are_in_slot_1(bench: Bench) -> None:
    assert bench.config_read(0, 0, 4) == 0x7000_8086
    assert bench.config_read(3, 0, 4) == 0x7113_8086
    assert bench.config_read(0, 0x0E) == 0x80
    assert bench.config_read(1, 0, 4) == bench.config_read(2, 0, 4) == 0xFFFF_FFFF


def test_interrupts_go_where_the_bridge_leads_them(bench: Bench) -> None:
    card = bench.card(2)  # PIRQB
    card.set_interrupt(True)
    assert bench.lines == [(10, True)]
    bench.config_write(0, 0x61, 5)
    assert bench.lines[1:] == [(5, True), (10, False)]
    bench.config_write(0, 0x61, 0x80)
    assert bench.lines[3:] == [(5, False)]
    card.set_interrupt(False)
    card.set_interrupt(True)
    assert bench.lines[4:] == []
    bench.config_write(0, 0x60, 0x0B0B_0B0B, 4)
    assert bench.lines[4:] == [(11, True)]


def test_two_functions_share_a_line(bench: Bench) -> None:
    first, second = bench.card(2), bench.card(3)
    bench.config_write(0, 0x61, 11)
    first.set_interrupt(True)
    second.set_interrupt(True)
    first.set_interrupt(False)
    assert bench.lines == [(11, True)]
    second.set_interrupt(False)
    assert bench.lines == [(11, True), (11, False)]


def test_firmware_finds_interrupts_that_lead_nowhere(bench: Bench) -> None:
    assert bench.config_read(0, 0x60, 4) == 0x0B0B_0A0A
    bench.board.isa_bridge.route_at_reset(None)
    assert bench.config_read(0, 0x60, 4) == 0x8080_8080
    bench.config_write(0, 0x60, 9)
    bench.board.reset()
    assert bench.config_read(0, 0x60, 4) == 0x8080_8080


def test_an_interrupt_of_both_buses_is_lowered_by_the_last(bench: Bench) -> None:
    board = bench.board
    board.set_irq(9, True)
    board.set_irq(9, True, ISA)
    board.set_irq(9, False)
    assert bench.lines == [(9, True)]
    board.set_irq(9, False, ISA)
    assert bench.lines == [(9, True), (9, False)]


def test_the_registers_of_acpi_answer_where_they_are_placed(bench: Bench) -> None:
    assert bench.read(BASE, 2) == 0xFFFF
    bench.place_pm()
    assert bench.config_read(3, 0x40, 4) == BASE
    bench.write(BASE + 2, 2, 0x1234)
    assert bench.read(BASE + 2, 2) == 0x1234
    bench.config_write(3, 0x40, 0xB000, 4)
    assert (bench.read(BASE + 2, 2), bench.read(0xB002, 2)) == (0xFFFF, 0x1234)
    bench.board.reset()
    assert bench.read(0xB002, 2) == 0xFFFF


def test_the_timer_counts_24_bits_and_says_when_its_top_bit_changes(bench: Bench) -> None:
    bench.place_pm()
    bench.write(BASE, 2, 1)
    assert bench.read(BASE, 2) == 0
    first = bench.read(BASE + 8, 4)
    bench.board.clock.step(1_000_000_000)
    assert bench.read(BASE + 8, 4) - first == 3579545
    bench.write(BASE + 2, 2, 1)
    assert bench.lines == []
    bench.board.clock.step(2 * HALF)
    assert bench.read(BASE + 8, 4) < 1 << 24
    assert bench.read(BASE, 2) == 1
    assert bench.lines == [(9, True)]
    bench.write(BASE, 2, 1)
    assert bench.lines == [(9, True), (9, False)]


def test_sleep_is_reported(bench: Bench) -> None:
    slept: list[int] = []
    bench.board.on_sleep = slept.append
    bench.place_pm()
    bench.write(BASE + 4, 2, 0x2001)
    bench.write(BASE + 4, 2, 0x2400)
    bench.write(BASE + 4, 2, 0x1C00)
    assert slept == [0, 1]
    assert bench.read(BASE + 4, 2) == 0x1C00


def test_the_smi_command_port_turns_acpi_on(bench: Bench) -> None:
    bench.place_pm()
    bench.write(0xB2, 2, 0x55F1)
    assert (bench.read(0xB2, 1), bench.read(0xB3, 1), bench.read(BASE + 4, 2)) == (0xF1, 0x55, 1)
    bench.write(0xB2, 1, 0xF0)
    assert bench.read(BASE + 4, 2) == 0


def test_the_timer_is_no_part_of_the_state(bench: Bench) -> None:
    pm: Piix4Pm = bench.board.pm
    bench.place_pm()
    before = pm.state()
    bench.board.clock.step(HALF)
    bench.read(BASE, 2)
    assert pm.state() == before
    bench.write(BASE + 2, 2, 1)
    assert pm.state() != before
