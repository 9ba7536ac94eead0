"""ioeventfds of a machine: zones are cut around them, and what was queued comes first."""

from __future__ import annotations

import os

from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.outcome import Event
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder

AT = 0xA0000


def descriptor(accel: FakeAccelerator) -> int:
    """That of the only ioeventfd."""
    (fd,) = (entry[2] for entry in accel.log if entry[0] == "event")
    assert isinstance(fd, int)
    return fd


def test_zones_are_cut_around_an_ioeventfd() -> None:
    """Before and after their device is mapped; posted ones, too."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.add_ioeventfd(Ioeventfd(AT + 4, 4), lambda _count: None)
    device = Recorder("mem", 0x40, coalesced=((0, 0x20),), posted=((0x20, 8),))
    machine.memory.map(device.region, AT)
    assert machine.coalescing.zones[False] == [(AT, 4), (AT + 8, 0x18), (AT + 0x20, 8)]
    machine.add_ioeventfd(Ioeventfd(AT + 0x24, 0), lambda _count: None)
    assert machine.coalescing.zones[False] == [
        (AT, 4),
        (AT + 8, 0x18),
        (AT + 0x20, 4),
        (AT + 0x25, 3),
    ]
    machine.close()


def test_what_was_queued_before_an_event_reaches_its_device_before_the_call() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel)
    device = Recorder("mem", 0x40, coalesced=((0, 0x20),))
    machine.memory.map(device.region, AT)
    calls: list[tuple[int, int]] = []
    machine.add_ioeventfd(
        Ioeventfd(AT + 0x20, 4), lambda count: calls.append((count, len(device.seen)))
    )
    fd = descriptor(accel)

    def signal_twice() -> None:
        os.eventfd_write(fd, 1)
        os.eventfd_write(fd, 1)

    accel.script = iter([Queued(AT, 4, 7), signal_twice, Event.READABLE])
    machine.run("any")
    assert calls == [(2, 1)]
    machine.close()


def test_an_event_just_before_the_halt_is_served_before_the_end() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel)
    calls: list[int] = []
    machine.add_ioeventfd(Ioeventfd(AT, 4), calls.append)
    accel.script = iter([lambda: os.eventfd_write(descriptor(accel), 1)])
    machine.run("any")
    assert calls == [1]
    machine.close()
