"""POST codes and the debugging console."""

from __future__ import annotations

import pytest

from coalesced.devices.diagnostics import DebugConsole
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import SpecError, create, parse_spec
from coalesced.vmm.machine import Machine


def test_post_codes_are_kept_and_the_port_reads_as_ones() -> None:
    with Machine(DirectAccelerator()) as machine:
        board = Board(machine, 16 << 20)
        before = board.post_codes.state()
        machine.ports.write(0x80, 1, 0x55)
        machine.ports.write(0xF0, 1, 0x00)
        assert machine.ports.read(0x80, 1) == machine.ports.read(0xF0, 1) == 0xFF
        assert board.post_codes.state() != before
        board.reset()
        assert board.post_codes.last == 0x55
        assert machine.ports.unassigned_accesses.total == 0


@pytest.mark.parametrize(
    ("spec", "port", "byte"),
    [
        ("isa-debugcon", 0xE9, 0xE9),
        ("isa-debugcon,iobase=0x402", 0x402, 0xE9),
        ("isa-debugcon,iobase=0x402,readback=0x12", 0x402, 0x12),
    ],
)
def test_the_console_takes_text_and_says_that_it_is_there(spec: str, port: int, byte: int) -> None:
    text = bytearray()
    with Machine(DirectAccelerator()) as machine:
        board, parsed = Board(machine, 16 << 20), parse_spec(spec)
        console = create(parsed)
        assert isinstance(console, DebugConsole)
        console.send = text.extend
        assert machine.ports.read(port, 1) == 0xFF
        board.add(console, parsed)
        assert machine.ports.read(port, 1) == byte
        for value in b"SeaBIOS":
            machine.ports.write(port, 1, value)
        board.reset()
        assert board.machine.devices[-1].state() == {}
    assert text == b"SeaBIOS"


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="expected a port of 0 to 0xffff, got 0x10000"):
        create(parse_spec("isa-debugcon,iobase=0x10000"))
