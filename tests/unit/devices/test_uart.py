"""The serial port: its registers, its FIFOs, its interrupts in order of priority, its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from coalesced.devices.uart import Uart
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import SpecError, create, parse_spec
from coalesced.vmm.machine import Machine

COM1 = 0x3F8
CHARACTER = 10 * 12 * 1_000_000_000 // 115200  # nanoseconds of 8 bits, start and stop


class Bench:
    def __init__(self, machine: Machine, spec: str = "isa-serial") -> None:
        self.board = Board(machine, 16 << 20)
        parsed = parse_spec(spec)
        device = create(parsed)
        assert isinstance(device, Uart)
        self.uart = device
        self.board.add(device, parsed)
        self.lines: list[tuple[int, bool]] = []
        self.board.on_irq = lambda irq, level: self.lines.append((irq, level))
        self.board.clock.step(0)
        self.sent = b""
        self.uart.send = self._send
        self.base = self.uart.legacy_ports[0][0]
        self.put(3, 0x03)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def put(self, register: int, *values: int) -> None:
        for value in values:
            self.board.machine.ports.write(self.base + register, 1, value)

    def get(self, register: int) -> int:
        return self.board.machine.ports.read(self.base + register, 1)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Machine(DirectAccelerator()) as machine:
        yield Bench(machine)


def test_what_the_guest_sends_is_gone_at_once(bench: Bench) -> None:
    bench.put(0, *b"hello")
    assert bench.sent == b"hello"
    assert bench.get(5) == 0x60
    assert bench.lines == []


def test_an_empty_transmitter_interrupts_until_its_cause_is_read(bench: Bench) -> None:
    bench.put(1, 0x02)
    assert bench.lines == [(4, True)]
    assert bench.get(2) == 0x02
    assert bench.get(2) == 0x01
    bench.put(0, 0x41)
    assert bench.lines == [(4, True), (4, False), (4, True)]
    bench.put(1, 0x00)
    assert bench.lines[-1] == (4, False)


def test_without_fifos_one_byte_is_taken_at_a_time(bench: Bench) -> None:
    room: list[int] = []
    bench.uart.on_room = lambda: room.append(bench.uart.room())
    assert bench.uart.receive(b"ab") == 1
    assert bench.uart.receive(b"b") == 0
    bench.put(1, 0x01)
    assert (bench.get(2), bench.get(5)) == (0x04, 0x61)
    assert bench.get(0) == ord("a")
    assert room == [1]
    assert (bench.get(2), bench.get(5), bench.lines) == (0x01, 0x60, [(4, True), (4, False)])


@pytest.mark.parametrize(("fcr", "trigger"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_fifos_interrupt_at_their_trigger_level(bench: Bench, fcr: int, trigger: int) -> None:
    bench.put(2, fcr)
    bench.put(1, 0x01)
    assert bench.get(2) == 0xC1
    bench.uart.receive(bytes(trigger - 1))
    assert bench.lines == []
    assert bench.uart.receive(b"\x55" * 16) == 17 - trigger
    assert bench.get(2) == 0xC4
    assert bench.uart.receive(b"x") == 0
    assert [bench.get(0) for _ in range(16)] == [0] * (trigger - 1) + [0x55] * (17 - trigger)
    assert (bench.get(0), bench.get(5), bench.lines[-1]) == (0, 0x60, (4, False))


def test_bytes_below_the_trigger_level_interrupt_after_four_characters(bench: Bench) -> None:
    bench.put(2, 0xC1)
    bench.put(1, 0x01)
    bench.uart.receive(b"ab")
    bench.board.clock.step(4 * CHARACTER - 100)
    assert bench.lines == []
    bench.board.clock.step(200)
    assert (bench.lines, bench.get(2)) == ([(4, True)], 0xCC)
    assert bench.get(0) == ord("a")
    assert bench.lines[-1] == (4, False)
    bench.board.clock.step(5 * CHARACTER)
    assert bench.get(2) == 0xCC
    bench.put(2, 0xC3)
    assert (bench.get(2), bench.get(5)) == (0xC1, 0x60)


def test_a_loop_leads_bytes_and_signals_back(bench: Bench) -> None:
    bench.put(4, 0x1B)
    assert bench.get(6) == 0xB0 & 0x30 | 0x80
    bench.put(0, 0x41, 0x42)
    assert bench.sent == b""
    assert bench.uart.receive(b"x") == 0
    assert (bench.get(5), bench.get(5)) == (0x63, 0x61)  # the first was overrun
    assert bench.get(0) == 0x42
    bench.put(4, 0x0B)
    assert bench.get(6) == 0xB0


def test_an_overrun_goes_before_data(bench: Bench) -> None:
    bench.put(4, 0x10)
    bench.put(1, 0x05)
    bench.put(0, 1, 2)
    assert bench.get(2) == 0x06
    assert bench.get(5) == 0x63
    assert bench.get(2) == 0x04


def test_the_divisor_lies_behind_a_bit_of_the_line_control(bench: Bench) -> None:
    bench.put(3, 0x83)
    assert (bench.get(0), bench.get(1)) == (12, 0)
    bench.put(0, 0x34)
    bench.put(1, 0x12)
    assert (bench.get(0), bench.get(1)) == (0x34, 0x12)
    bench.put(3, 0x03)
    bench.put(7, 0x5A)
    assert (bench.get(1), bench.get(3), bench.get(7), bench.sent) == (0, 3, 0x5A, b"")


def test_reset_drops_what_waits(bench: Bench) -> None:
    bench.put(2, 0x01)
    bench.put(1, 0x01)
    bench.uart.receive(b"abc")
    bench.board.reset()
    assert bench.lines == [(4, True), (4, False)]
    assert (bench.get(5), bench.get(2), bench.get(1)) == (0x60, 0x01, 0)
    bench.board.clock.step(100 * CHARACTER)
    assert bench.lines == [(4, True), (4, False)]


@pytest.mark.parametrize(
    ("spec", "base", "irq"),
    [
        ("isa-serial", 0x3F8, 4),
        ("isa-serial,index=1", 0x2F8, 3),
        ("isa-serial,iobase=0x2e8", 0x2E8, 3),
        ("isa-serial,iobase=0x500,irq=7", 0x500, 7),
    ],
)
def test_places(spec: str, base: int, irq: int) -> None:
    with Machine(DirectAccelerator()) as machine:
        bench = Bench(machine, spec)
        assert bench.base == base
        bench.put(1, 0x02)
        assert bench.lines == [(irq, True)]


@pytest.mark.parametrize("properties", ["irq=16", "iobase=0xfffa", "index=4", "baudbase=9600"])
def test_places_that_cannot_be_are_refused(properties: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        create(parse_spec(f"isa-serial,{properties}"))


def test_the_state_has_registers_and_what_waits(bench: Bench) -> None:
    changes: list[Callable[[], object]] = [
        lambda: bench.put(7, 1),
        lambda: bench.put(2, 1),
        lambda: bench.uart.receive(b"a"),
        lambda: bench.put(1, 2),
        lambda: bench.get(2),
    ]
    seen = [bench.uart.state()]
    for change in changes:
        change()
        assert bench.uart.state() not in seen
        seen.append(bench.uart.state())
