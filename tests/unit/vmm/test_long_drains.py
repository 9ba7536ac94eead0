"""A drain that lasts: what else is due, and Ctrl-C."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coalesced.hv.errors import PeerDied
from coalesced.vmm.exits import SINGLE_WRITES
from coalesced.vmm.machine import LAST_FLUSH, Machine
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder, Step

MEM = 0xA0000
FULL = 169


class Slow:
    """A machine with a device each of whose writes takes `cost` seconds of a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float, *script: Step) -> None:
        self.cost = cost
        self.now = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("coalesced.vmm.drain.time", clock)
        self.accel = FakeAccelerator(script)
        self.machine = Machine(self.accel)
        self.device = Recorder("mem", 0x100, coalesced=((0, 0x100),), on_write=self.write)
        self.machine.memory.map(self.device.region, MEM)
        self.served_at: list[int] = []

    def write(self, _offset: int, value: int) -> None:
        self.now += self.cost
        if value == 0:  # due at once, and so in the next turn of the timers
            self.machine.loop.call_at(0, lambda: self.served_at.append(len(self.device.log)))


def writes(count: int) -> list[Queued]:
    """So many writes, each with its number."""
    return [Queued(MEM + number, 1, number) for number in range(count)]


def press() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("count", [20, FULL])
def test_timers_have_their_turn_amid_a_drain_that_lasts(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    slow = Slow(monkeypatch, 1.0, *writes(count))
    slow.machine.run("guest")
    assert len(slow.served_at) == 1
    assert slow.served_at[0] <= 2 * SINGLE_WRITES
    assert [value for _, _, _, value in slow.device.seen] == list(range(count))


def test_a_timer_that_finds_the_guest_dead_amid_a_drain_cuts_nothing_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its published writes arrive, then its death is reported."""

    def find_dead() -> None:
        raise PeerDied("gone")

    slow = Slow(monkeypatch, 1.0, *writes(FULL))
    slow.machine.loop.call_at(0, find_dead)
    slow.accel.put(*writes(FULL - 1))
    with pytest.raises(PeerDied, match="gone"):
        slow.machine.flush()
    assert len(slow.device.seen) == FULL - 1
    assert slow.machine.flush() == 0


def test_a_short_drain_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, 1e-6, *writes(FULL))
    slow.machine.run("guest")
    assert len(slow.device.seen) == FULL
    assert not slow.served_at


def test_a_timer_amid_a_drain_does_not_change_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, 1.0)
    flushed: list[int] = []

    def queue_and_ask() -> None:
        slow.accel.put(*writes(50))
        slow.machine.loop.call_at(0, lambda: flushed.append(slow.machine.flush()))

    slow.accel.script = iter([queue_and_ask])
    slow.machine.run("guest")
    assert [value for _, _, _, value in slow.device.seen] == list(range(50))
    assert flushed == [0]


def test_ctrl_c_does_not_wait_for_a_ring_full_of_slow_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writes queued by then still reach the devices, within the time limit."""
    slow = Slow(monkeypatch, LAST_FLUSH / 10, *writes(FULL), press)
    with pytest.raises(KeyboardInterrupt):
        slow.machine.run("guest")
    assert 10 <= len(slow.device.seen) <= 10 + 2 * SINGLE_WRITES


def test_ctrl_c_leaves_the_devices_what_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, 1e-6, *writes(FULL), press)
    with pytest.raises(KeyboardInterrupt):
        slow.machine.run("guest")
    assert len(slow.device.seen) == FULL
