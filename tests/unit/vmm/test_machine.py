"""A machine's state, its staleness timer and the length of a run."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import numpy as np
import pytest

from coalesced.devices.vga import Vga
from coalesced.hv.errors import ProtocolError
from coalesced.hv.outcome import Event
from coalesced.hv.process import GuestProcess
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.accel.shared import SharedMemory
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder, Step, load


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds


# --- state ---


def pc_of(accel: Accelerator) -> tuple[Machine, Vga]:
    machine = Machine(accel)
    pc.add_ram(machine)
    return machine, pc.add_vga(machine)


def test_equal_machines_have_equal_states() -> None:
    assert pc_of(FakeAccelerator())[0].state() == pc_of(DirectAccelerator())[0].state()


def test_ram_is_given_back_when_the_machine_is_closed() -> None:
    """Not at the next garbage collection: machine and parts refer to each other."""
    machine = Machine(ProcessAccelerator(GuestProcess()))
    ram = machine.add_ram(0, 1 << 20)
    assert isinstance(ram, SharedMemory)
    mapping = memoryview(ram.memory.mapping)
    address = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    del mapping, ram
    line = f"{address:x}-{address + (1 << 20):x} rw-s"
    assert line in Path("/proc/self/maps").read_text()
    gc.disable()
    try:
        machine.close()
        assert line not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()


@pytest.mark.parametrize("place", [(0, 0), (0, 0x9FFFF), (1, 0), (1, (3 << 20) - 1)])
def test_every_byte_of_declared_ram_counts(place: tuple[int, int]) -> None:
    machine, _ = pc_of(FakeAccelerator())
    before = machine.state()
    slot, offset = place
    machine.ram[slot].write(offset, b"\1")
    changed = machine.state()
    machine.ram[slot].write(offset, b"\0")
    assert changed != before
    assert machine.state() == before


def test_the_place_of_a_byte_in_ram_counts() -> None:
    states = set()
    for offset in (0, 0x2000, 0x10000, 0x20000):
        machine, _ = pc_of(FakeAccelerator())
        machine.ram[0].write(offset, b"\1")
        states.add(machine.state())
    assert len(states) == 4


def test_ram_that_is_not_declared_does_not_count() -> None:
    machine, _ = pc_of(FakeAccelerator())
    before = machine.state()
    machine.add_ram(1 << 40, 4096, declared=False).write(0, b"program")
    assert machine.state() == before


def test_the_order_in_which_ram_was_added_does_not_count() -> None:
    states = set()
    for order in ((0, 4096), (4096, 0)):
        machine = Machine(FakeAccelerator())
        for start in order:
            machine.add_ram(start, 4096).write(0, b"%d" % start)
        states.add(machine.state())
    assert len(states) == 1


@pytest.mark.parametrize(
    ("port", "value"),
    [(0x3C2, 0x67), (0x3C4, 5), (0x3C8, 7), (0x3CE, 3), (0x3B4, 9)],
    ids=lambda v: f"{v:#x}",
)
def test_registers_of_a_device_count(port: int, value: int) -> None:
    machine, vga = pc_of(FakeAccelerator())
    before = machine.state()
    machine.ports.write(port, 1, value)
    assert machine.state() != before
    vga.reset()
    assert machine.state() == before


def test_video_memory_counts() -> None:
    machine, vga = pc_of(FakeAccelerator())
    before = machine.state()
    machine.ports.write(0x3C4, 2, 0x0F02)  # every plane open
    machine.ports.write(0x3CE, 2, 0xFF08)  # every bit
    opened = machine.state()
    machine.memory.write(0xA8000, 1, 0xFF)
    assert len({before, opened, machine.state()}) == 3
    assert vga.name


def test_the_place_of_a_byte_in_video_memory_counts() -> None:
    machine, vga = pc_of(FakeAccelerator())
    size = len(vga.vram.data)
    states = {machine.state()}
    for place in (0, 0x10000, size // 2, size - 1):
        vga.vram.data[place] = 1
        states.add(machine.state())
        vga.vram.data[place] = 0
        assert machine.state() in states
    assert len(states) == 5


def test_the_state_is_taken_after_a_flush() -> None:
    machine = Machine(accel := FakeAccelerator())
    device = Recorder("r", 0x10, coalesced=((0, 0x10),))
    machine.add_device(device)
    machine.memory.map(device.region, 0)
    empty = machine.state()
    accel.put(Queued(3, 1, 9))
    assert machine.state() != empty
    assert device.seen == [("write", 3, 1, 9)]


def test_what_a_device_calls_its_parts_is_part_of_the_state() -> None:
    """Else two values could change places unseen."""
    one, other = Recorder("a", 2), Recorder("b", 2)
    states = set()
    for device in (one, other):
        machine = Machine(FakeAccelerator())
        machine.add_device(device)
        states.add(machine.state())
    assert len(states) == 2


@pytest.mark.parametrize("size", [0, 0x100000, 0x100001, 0x200800])
def test_a_pc_has_more_than_a_mebibyte_of_whole_pages(size: int) -> None:
    with pytest.raises(ValueError, match=f"got {size} bytes"):
        pc.add_ram(Machine(FakeAccelerator()), size)


# --- staleness ---


def stale_machine(
    staleness: float | None, *script: Step, ring: bool = True
) -> tuple[Machine, Recorder]:
    machine = Machine(FakeAccelerator(script, ring=ring), staleness=staleness)
    device = Recorder("r", 0x100, coalesced=((0, 0x100),))
    machine.memory.map(device.region, 0)
    return machine, device


def test_a_queued_write_is_delivered_after_the_staleness(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, arrived = Clock(monkeypatch), list[int]()

    def look() -> None:
        arrived.append(len(device.seen))

    machine, device = stale_machine(
        0.010,
        *(Queued(0, 1, 1), lambda: clock.advance(0.009), Event.TIMED_OUT, look),
        *(lambda: clock.advance(0.001), Event.TIMED_OUT, look),
        *(Queued(0, 1, 2), lambda: clock.advance(0.010), Event.TIMED_OUT, look),
        *(lambda: clock.advance(0.010), Event.TIMED_OUT, look),  # nothing there: no stale drain
    )
    machine.run("guest")
    assert arrived == [0, 1, 2, 2]
    assert machine.counters.stale_drains == 2
    assert machine.counters.exits == 1


def test_the_timer_also_counts_while_a_guest_exits_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    machine, _ = stale_machine(0.010, load(0), lambda: clock.advance(1), load(0))
    called: list[float] = []
    machine.loop.call_at(clock.now + 0.5, lambda: called.append(clock.now))
    machine.run("guest")
    assert called == [1001.0]


def test_without_staleness_only_an_exit_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, arrived = Clock(monkeypatch), list[int]()
    machine, device = stale_machine(
        None,
        *(Queued(0, 1, 1), lambda: clock.advance(100), Event.TIMED_OUT),
        lambda: arrived.append(len(device.seen)),
    )
    machine.run("guest")
    assert arrived == [0]
    assert len(device.seen) == 1
    assert machine.loop.timeout() is None


def test_the_staleness_changes_while_the_guest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, arrived, machines = Clock(monkeypatch), list[int](), list[Machine]()

    def look() -> None:
        arrived.append(len(device.seen))

    def change(staleness: float | None) -> Step:
        return lambda: machines[0].set_staleness(staleness)

    machine, device = stale_machine(
        10.0,
        *(Queued(0, 1, 1), change(0.010), lambda: clock.advance(0.010), Event.TIMED_OUT, look),
        *(Queued(0, 1, 2), change(None), lambda: clock.advance(100), Event.TIMED_OUT, look),
    )
    machines.append(machine)
    machine.run("guest")
    assert arrived == [1, 1]


def test_without_a_ring_there_is_no_staleness() -> None:
    machine, _ = stale_machine(0.010, ring=False)
    machine.run("guest")
    assert machine.loop.timeout() is None


# --- a run ---


def test_a_run_lasts_until_the_last_queued_write_has_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the guest's first operation on, in seconds."""
    now = [5_000_000_000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    machine, device = stale_machine(None, Queued(0, 1, 1))
    monkeypatch.setattr(machine.accel, "first_operation", lambda: 4_000_000_000)

    def take_time(_offset: int, _value: int) -> None:
        now[0] += 500_000_000

    device.on_write = take_time
    machine.run("guest")
    assert machine.seconds == 1.5


def test_a_damaged_ring_is_an_error_that_names_slot_and_value() -> None:
    accel = FakeAccelerator([Queued(0, 1, 1), Queued(0, 1, 2)])
    machine = Machine(accel)
    device = Recorder("r", 0x10, coalesced=((0, 0x10),))
    machine.memory.map(device.region, 0)
    assert accel.queue is not None
    ring = accel.queue.mapping

    def damage() -> None:
        ring.write(8 + 24 + 8, (99).to_bytes(4, "little"))  # len of slot 1

    accel.script = iter([Queued(0, 1, 1), Queued(0, 1, 2), damage])
    with pytest.raises(ProtocolError, match="slot 1 has len 99"):
        machine.run("guest")
    assert device.seen == [("write", 0, 1, 1)]


def test_the_guest_is_loaded_with_its_arguments() -> None:
    accel = FakeAccelerator()
    with Machine(accel) as machine:
        machine.run("module:function", {"count": 3})
    assert accel.log == [("guest", "module:function", {"count": 3})]
