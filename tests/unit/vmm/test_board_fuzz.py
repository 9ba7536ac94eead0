"""Nothing that a guest does at a PC's ports raises, or leaves a board that cannot go on."""

from __future__ import annotations

import random

import pytest

from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine
from helpers.tiers import some_heavy

PORTS = (
    *range(0x00, 0x100),
    *range(0x3F8, 0x400),
    0x402,
    *range(0x4D0, 0x4D2),
    *range(0x510, 0x51C),
    *range(0x600, 0x610),
    *range(0xCF8, 0xD00),
)
TURNS = 7_000


def built(machine: Machine) -> Board:
    board = Board(machine, 2 << 20)
    for text in ("isa-serial", "isa-debugcon,iobase=0x402"):
        spec = parse_spec(text)
        board.add(create(spec), spec)
    board.clock.step(0)
    for value in (0x8000_0B40, 0x8000_0B80):  # ACPI's registers at 0x600
        machine.ports.write(0xCF8, 4, value)
        machine.ports.write(0xCFC, 4, 0x601)
    return board


@pytest.mark.slow
@some_heavy("seed", [[0], [1], [2]], lambda seed: seed == 0)
def test_random_accesses_are_all_answered(seed: int) -> None:
    rng = random.Random(seed)
    with Machine(DirectAccelerator()) as machine:
        board = built(machine)
        for _ in range(TURNS):
            port, size, do = rng.choice(PORTS), rng.randrange(1, 9), rng.randrange(20)
            if do < 9:
                assert 0 <= machine.ports.read(port, size) < 1 << 8 * size
            elif do < 18:
                machine.ports.write(port, size, rng.randrange(1 << 8 * size))
            elif do == 18:
                assert 0 <= board.pic.acknowledge() < 256
            else:
                board.clock.step(rng.choice((0, 1000, 1_000_000, 50_000_000)))
        machine.state()
        board.reset()
        assert machine.ports.read(0x64, 1) == 0x18
        assert machine.counters.failures == []
