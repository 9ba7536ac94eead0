"""`--explain`: the line of each access."""

from __future__ import annotations

import io

import pytest

from coalesced.devices.e1000.card import E1000
from coalesced.hv.outcome import Outcome
from coalesced.tools.runs.story import Story
from coalesced.vmm import pc
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, in_, load, out, store


def story(*steps: Queued | Outcome, limit: int | None = None) -> list[str]:
    machine = Machine(FakeAccelerator(list(steps)))
    pc.add_vga(machine)
    told = io.StringIO()
    machine.observe(Story(machine, told, limit))
    machine.run("guest")
    return told.getvalue().splitlines()


def test_queued_writes_have_their_slots_and_an_exit_its_reason() -> None:
    assert story(
        Queued(0xA0000, 1, 0x40),
        Queued(0xA0002, 2, 0x1234),
        load(0xA0000),
        Queued(0xA0004, 4, 5),
        store(0xA0006, 9),
        store(0xBFFFF, 9, 2),
        store(0xFFF00000, 4, 4),
    ) == [
        "    1  store 1 to 0xa0000 vga-lowmem+0x0 <- 0x40  slot 0: first 0, last 1",
        "    2  store 2 to 0xa0002 vga-lowmem+0x2 <- 0x1234  slot 1: first 0, last 2",
        "       drain of 2 writes, 2 exits saved (rule 5): first 2",
        "    3  load  1 at 0xa0000 vga-lowmem+0x0 = 0x00  "
        "exit: the guest waits for its value (rule 2)",
        "    4  store 4 to 0xa0004 vga-lowmem+0x4 <- 0x00000005  slot 2: first 2, last 3",
        "       drain of 1 write, 1 exit saved (rule 5): first 3",
        "    5  store 1 to 0xa0006 vga-lowmem+0x6 <- 0x09  exit: the ring is full (rule 3)",
        "    6  store 2 to 0xbffff vga-lowmem+0x1ffff <- 0x0009  "
        "exit: it crosses the edge of a zone (rule 1)",
        "    7  store 4 to 0xfff00000 unassigned <- 0x00000004  exit: no zone contains it (rule 1)",
    ]


def test_a_register_has_the_name_that_its_index_selects() -> None:
    assert story(out(0x3C4, 2), out(0x3C5, 15), in_(0x3C5), out(0x3CE, 8), in_(0x3CF)) == [
        "    1  out   1 to 0x3c4 vga SR index <- 0x02  exit: no zone contains it (rule 1)",
        "    2  out   1 to 0x3c5 vga SR2 <- 0x0f  exit: no zone contains it (rule 1)",
        "    3  in    1 at 0x3c5 vga SR2 = 0x0f  exit: the guest waits for its value (rule 2)",
        "    4  out   1 to 0x3ce vga GR index <- 0x08  exit: no zone contains it (rule 1)",
        "    5  in    1 at 0x3cf vga GR8 = 0x00  exit: the guest waits for its value (rule 2)",
    ]


def test_slots_wrap_around() -> None:
    batch: list[Queued | Outcome] = [Queued(0xA0000 + n, 1, 0) for n in range(100)]
    lines = story(*batch, load(0xA0000), *batch)
    queued = [line for line in lines if "slot" in line]
    assert queued[169].endswith("slot 169: first 100, last 0")
    assert queued[171].endswith("slot 1: first 100, last 2")
    assert lines[-1] == "       drain of 100 writes, 100 exits saved (rule 5): first 30"


@pytest.mark.parametrize("queued", [0, 5])
def test_the_last_explained_access_says_so_and_the_guest_runs_on(queued: int) -> None:
    steps = [Queued(0xA0000, 1, 0)] * queued + [load(0xA0000)] * 5
    lines = story(*steps, limit=3)
    assert len(lines) == 4
    assert lines[-1] == "       The guest runs on; later accesses are not explained."


@pytest.mark.parametrize(
    ("offset", "name"),
    [
        (0x3818, "TDT"),
        (0x0000, "CTRL"),
        (0x00C2, "ICR"),
        (0x5208, "MTA[2]"),
        (0x540C, "RAH[1]"),
        (0x5410, "RAL[2]"),
        (0x4074, "GPRC"),
        (0x5700, "VFTA[64]"),
        (0x1F000, None),
    ],
)
def test_an_e1000_register_has_the_manuals_name(offset: int, name: str | None) -> None:
    register = E1000().mmio.register
    assert register is not None
    assert register(offset) == name
