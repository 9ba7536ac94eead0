"""A guest gives its card a buffer by a queued write and waits: the write must arrive."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest

from coalesced.devices.bus.region import Region
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.base import Accelerator, GuestMemory
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers import network_guests
from helpers.network_bench import free_ports
from helpers.network_cards import FakeCard

FRAMES = 20


class Card(FakeCard):
    """A card with one register, which is coalesced, and an interrupt per frame."""

    def __init__(self, machine: Machine, memory: GuestMemory) -> None:
        super().__init__(0)
        self._machine = machine
        self._memory = memory
        self._given = 0
        region = Region("card", 0x1000, lambda _at, _size: 0, self._write, coalesced=((0, 4),))
        machine.memory.map(region, network_guests.CARD)

    def _write(self, _offset: int, _size: int, value: int) -> None:
        more, self._given = value - self._given, value
        self.refill(more)

    def receive(self, frames: Sequence[bytes]) -> int:
        taken = super().receive(frames)
        count = len(self.received)
        set_irq = self._machine.accel.set_irq
        set_irq(10 + count % 2, False)
        set_irq(10 + (count + 1) % 2, True)
        if count == FRAMES:
            self._memory.write(network_guests.RESULT, count.to_bytes(4, "little"))
        return taken


def process(policy: WaitPolicy = WaitPolicy.ADAPTIVE) -> Accelerator:
    return ProcessAccelerator(GuestProcess(), policy=policy)


def run(accel: Accelerator, staleness: float | None, flush: bool, guest: str = "") -> int:
    """The number of frames that the guest receives before it gives up; each one is checked."""
    port, theirs = free_ports(2)
    with Machine(accel, staleness=staleness) as machine, socket.socket(type=socket.SOCK_DGRAM) as s:
        memory = machine.add_ram(0, 0x10000)
        if not flush:
            machine.network.host.flush = lambda _card: None
        machine.network.add(f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{theirs}")
        card = Card(machine, memory)
        wire = machine.network.take("n0", "card")
        card.connect(wire)
        wire.connect(card)
        for number in range(FRAMES):
            s.sendto(b"frame %d" % number, ("127.0.0.1", port))
        arguments: dict[str, object] = {"frames": FRAMES}
        if not guest:
            arguments["patience"] = 5 if flush or staleness else 0.2
        name = guest or "refill_and_wait"
        machine.run(f"{network_guests.__file__}:{name}", arguments)
        assert machine.counters.exits <= 1, "its halt"
        assert len(set(card.received)) == len(card.received)
        assert set(card.received) <= {b"frame %d" % number for number in range(FRAMES)}
        return int.from_bytes(memory.read(network_guests.RESULT, 4), "little")


@pytest.mark.parametrize("policy", [WaitPolicy.BLOCK, WaitPolicy.ADAPTIVE])
def test_without_any_flush_the_guest_waits_for_ever(policy: WaitPolicy) -> None:
    assert run(process(policy), staleness=None, flush=False) == 0


@pytest.mark.parametrize("policy", list(WaitPolicy))
@pytest.mark.parametrize(
    ("staleness", "flush"), [(0.002, False), (None, True), (0.01, True)], ids=str
)
def test_either_flush_hears_it(policy: WaitPolicy, staleness: float | None, flush: bool) -> None:
    assert run(process(policy), staleness, flush) == FRAMES


def test_direct_has_nothing_to_flush() -> None:
    assert run(DirectAccelerator(), None, flush=False) == FRAMES


@pytest.mark.parametrize("make", [process, DirectAccelerator])
def test_a_guest_that_looks_into_memory_all_the_time_gets_its_frames(
    make: Callable[[], Accelerator],
) -> None:
    """On `direct`, where nothing else can run meanwhile, as well."""
    assert run(make(), 0.01, True, "poll_memory") == FRAMES
