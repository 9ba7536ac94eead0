"""RAM behind the video window and the ROMs, as the host bridge of a board shows and hides it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.hv.errors import HostError
from coalesced.vmm.accel.direct import LocalMemory
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, load, out, store

WINDOW = 0xA0000
ROM = 0xC4000
SMRAM, PAM = 0x72, 0x5A


class Bench:
    """A board with a VGA whose guest is a script."""

    def __init__(self, *script: object) -> None:
        self.accel = FakeAccelerator(script)  # type: ignore[arg-type]
        self.machine = Machine(self.accel)
        self.board = Board(self.machine, 2 << 20)
        spec = parse_spec("VGA,addr=02.0")
        self.board.add(create(spec), spec)

    def config_write(self, register: int, value: int) -> None:
        self.machine.ports.write(0xCF8, 4, 0x8000_0000 | register & 0xFC)
        self.machine.ports.write(0xCFC + (register & 3), 1, value)

    def window_zones(self) -> list[str]:
        """The changes of the zone over the video window, in order."""
        return [str(entry[0]) for entry in self.accel.log if entry[1:3] == (WINDOW, 0x20000)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.machine:
        yield made


def test_bus_masters_reach_what_is_shown(bench: Bench) -> None:
    dma = bench.machine.dma
    dma.write(ROM - 2, b"lost")
    assert dma.read(ROM - 2, 4) == bytes(4)
    assert dma.ram_at(ROM) is None
    bench.config_write(PAM, 0x20)
    dma.write(ROM - 2, b"kept")
    assert dma.read(ROM - 2, 4) == b"\0\0pt"
    assert dma.ram_at(ROM) is not None
    bench.config_write(PAM, 0x00)
    assert dma.read(ROM - 2, 4) == bytes(4)
    bench.config_write(PAM, 0x10)
    assert dma.read(ROM - 2, 4) == b"\0\0pt"


def test_the_state_has_hidden_ram_in_it(bench: Bench) -> None:
    bench.config_write(PAM, 0x30)
    empty = bench.machine.state()
    bench.machine.dma.write(ROM, b"x")
    written = bench.machine.state()
    assert written != empty
    bench.config_write(PAM, 0x00)
    hidden = bench.machine.state()
    bench.config_write(PAM, 0x30)
    bench.machine.dma.write(ROM, b"y")
    bench.config_write(PAM, 0x00)
    assert bench.machine.state() != hidden


def test_the_zone_over_the_window_goes_and_comes_with_smram(bench: Bench) -> None:
    bench.accel.log.clear()
    bench.config_write(SMRAM, 0x42)
    assert bench.window_zones() == ["unregister"]
    bench.config_write(SMRAM, 0x0A)
    assert [what for what in bench.window_zones() if what != "hide"] == ["unregister", "register"]
    assert ("hide", WINDOW, 0x20000) in bench.accel.log


def test_what_was_queued_before_reaches_the_window() -> None:
    """The write that opens SMRAM finds the ring full of writes to the video card."""
    bench = Bench(
        out(0x3C4, 0x0F02, 2),
        out(0x3C4, 0x0604, 2),
        out(0x3CE, 0x0506, 2),
        out(0x3CE, 0xFF08, 2),
        Queued(WINDOW, 1, 0x5A),
        out(0xCF8, 0x8000_0070, 4),
        Queued(WINDOW + 1, 1, 0xA5),
        out(0xCFE, 0x42),
        load(WINDOW),  # an accelerator would not exit for it; the region answers all the same
        store(WINDOW, 0x77),
        load(WINDOW),
        out(0xCFE, 0x02),
        load(WINDOW),
        load(WINDOW + 1),
    )
    with bench.machine:
        bench.machine.resume()
    assert bench.accel.completed == [0, 0x77, 0x5A, 0xA5]


def test_ram_wins_over_a_base_address_on_it(bench: Bench) -> None:
    bench.config_write(PAM, 0x30)
    bench.machine.memory.write(ROM, 4, 0x11223344)
    for register, value in ((0x04, 2), (0x18, 0), (0x19, 0x40), (0x1A, 0x0C)):
        bench.machine.ports.write(0xCF8, 4, 0x8000_1000 | register & 0xFC)
        bench.machine.ports.write(0xCFC + (register & 3), 1, value)
    assert bench.machine.memory.read(ROM, 4) == 0x11223344


def test_without_room_the_place_stays_with_the_devices(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_start: int, _size: int) -> LocalMemory:
        raise HostError("no room")

    monkeypatch.setattr(bench.accel, "add_memory", no_room)
    with pytest.raises(HostError, match="no room"):
        bench.config_write(SMRAM, 0x42)
    region = bench.machine.memory.region_at(WINDOW)
    assert region is not None
    assert region.name != "shadow-ram"
    monkeypatch.undo()
    bench.config_write(SMRAM, 0x42)
    assert bench.machine.dma.ram_at(WINDOW) is not None
