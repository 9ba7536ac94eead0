"""A machine whose guest runs on several vCPUs: each access is carried out once, in its order."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import Mapping
from coalesced.devices.bus.region import Region
from coalesced.hv import abi, core
from coalesced.hv.client import Vm
from coalesced.hv.errors import GuestError, PeerDied, RequestError
from coalesced.hv.outcome import Event, Outcome
from coalesced.hv.process import GuestProcess
from coalesced.hv.vcpus import Vcpus
from coalesced.tools.runs.recorded import recorder
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.kvm import KvmAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers import vcpu_guests as guests
from helpers.hv_pair import POLICIES
from helpers.hv_processes import machine as vm_of
from helpers.hv_processes import within
from helpers.kvm_sides import needs_several
from helpers.vcpu_guests import DEVICE, EXITS, LOADED, QUEUED, WINDOW, window

LIMIT = 30
SIZE = 0x40
RAISE, FLUSH, MAP, UNMAP, WAIT = range(0xE0, 0xE5)  # values that the devices obey

Operation = tuple[int, int, int, int]  # kind, size, offset, value
Seen = tuple[str, int, int, int]  # kind, offset, size, value


class Card:
    """A vCPU's own device: it writes down its accesses, and obeys some values."""

    def __init__(self, machine: Machine, index: int) -> None:
        self.seen: list[Seen] = []
        self._bytes = bytearray(SIZE)
        self._machine = machine
        self._base = window(index)
        self._above: Mapping | None = None
        zone = ((QUEUED, 0x10),)
        self._region = Region(f"card {index}", SIZE, self.read, self.write, coalesced=zone)
        self._hidden = Region(f"above {index}", SIZE, self.read_above, self.write_above)
        machine.memory.map(self._region, self._base)

    def read(self, offset: int, size: int) -> int:
        value = int.from_bytes(self._bytes[offset : offset + size], "little")
        self.seen.append(("read", offset, size, value))
        if value == RAISE:
            raise LookupError("refused")
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append(("write", offset, size, value))
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")
        self._obey(value)

    def read_above(self, offset: int, size: int) -> int:
        self.seen.append(("read above", offset, size, 0))
        return offset

    def write_above(self, offset: int, size: int, value: int) -> None:
        self.seen.append(("write above", offset, size, value))
        self._obey(value)

    def _obey(self, value: int) -> None:
        space = self._machine.memory
        if value == RAISE:
            raise ValueError("refused")
        if value == FLUSH:
            self._machine.flush()
        if value == MAP and self._above is None:  # zones move: all vCPUs stop for it
            self._above = space.map(self._hidden, self._base + 0x18, priority=1)
        if value == UNMAP and self._above is not None:
            above, self._above = self._above, None
            space.unmap(above)
        if value == WAIT:
            self._machine.loop.call_at(0.0, lambda: None)


class Board:
    """A machine with a card, and an area of RAM, for each of its vCPUs."""

    def __init__(self, vcpus: int, first: int = 0, in_c: bool = True) -> None:
        """`first`: the card that the first vCPU's program is for, of a machine with one vCPU."""
        self.accel = ProcessAccelerator(GuestProcess(), vcpus=vcpus)
        self.machine = Machine(self.accel)
        if not in_c:
            self.accel.exits = None
        self.ram = self.machine.add_ram(guests.RAM, 8 * guests.AREA)
        self.cards = [Card(self.machine, first + index) for index in range(vcpus)]
        self.accel.load_guest(f"{guests.FILE}:programs", {})

    def run(self, programs: list[list[Operation]]) -> list[tuple[Any, list[Seen]]]:
        """Run a program on each vCPU: its loads and end, and what its card saw."""
        for index, program in enumerate(programs):
            text = json.dumps(program).encode()
            self.ram.write(index * guests.AREA, len(text).to_bytes(8, "little") + text)
            self.cards[index].seen.clear()
        self.machine.resume()
        return [(self._left(index), list(card.seen)) for index, card in enumerate(self.cards)]

    def _left(self, index: int) -> Any:
        size = int.from_bytes(self.ram.read(index * guests.AREA, 8), "little")
        return json.loads(self.ram.read(index * guests.AREA + 8, size))

    def counts(self) -> tuple[int, int, int]:
        """Writes, loads and halts so far."""
        counters = self.machine.counters
        return counters.writes, counters.exits_by["load"], counters.halts


VCPUS = 3
values = st.one_of(st.integers(0, 255), st.sampled_from(range(RAISE, WAIT + 1)))
offsets = st.integers(0, SIZE - 8)  # accesses beside the card would be counted, not seen
operations = st.one_of(
    st.tuples(st.just(abi.OP_LOAD), st.sampled_from([1, 2, 4, 8]), offsets, st.just(0)),
    st.tuples(st.just(abi.OP_STORE), st.sampled_from([1, 2, 4, 8]), offsets, values),
    st.tuples(st.just(abi.OP_STORE), st.just(1), st.integers(QUEUED, QUEUED + 0xF), values),
)
programs_of_all = st.lists(
    st.lists(operations, min_size=1, max_size=40), min_size=VCPUS, max_size=VCPUS
)


@pytest.fixture(scope="module", params=[True, False], ids=["in C", "in Python"])
def boards(request: pytest.FixtureRequest) -> Iterator[tuple[Board, list[Board]]]:
    several = Board(VCPUS, in_c=request.param)
    alone = [Board(1, index) for index in range(VCPUS)]
    yield several, alone
    for board in (several, *alone):
        board.machine.close()


@settings(max_examples=40, deadline=None)
@given(wanted=programs_of_all)
def test_each_of_several_vcpus_sees_what_it_sees_alone(
    boards: tuple[Board, list[Board]], wanted: list[list[Operation]]
) -> None:
    """Loads, the card's accesses in their order, and the sums of the counters."""
    several, alone = boards
    programs = [
        [(kind, size, window(index) + offset, value) for kind, size, offset, value in program]
        for index, program in enumerate(wanted)
    ]
    with within(LIMIT):
        together = several.run(programs)
        one_by_one = [board.run([each])[0] for board, each in zip(alone, programs, strict=True)]
    assert together == one_by_one
    counts = [board.counts() for board in alone]
    assert several.counts() == tuple(map(sum, zip(*counts, strict=True)))


# --- guests with a device for all ---


@contextmanager
def machine_of(
    vcpus: int,
    write: Callable[[int, int, int], None],
    accel: Accelerator | None = None,
    staleness: float | None = None,
) -> Iterator[Machine]:
    """A machine with RAM, and a device whose writes are calls of `write`."""
    accel = accel or ProcessAccelerator(GuestProcess(), vcpus=vcpus)
    with within(LIMIT), Machine(accel, staleness=staleness) as machine:
        add_device(machine, write)
        yield machine


def add_device(machine: Machine, write: Callable[[int, int, int], None]) -> None:
    region = Region(
        "device",
        8 * WINDOW,
        lambda _offset, _size: 0,
        write,
        coalesced=tuple((index * WINDOW + QUEUED, 4) for index in range(8)),
    )
    machine.add_ram(guests.RAM, 8 * guests.AREA)
    machine.memory.map(region, DEVICE)


class Twin(NamedTuple):
    """The machine that a guest is recorded on."""

    build: Callable[[Machine], None] = lambda machine: add_device(machine, lambda *_: None)
    write_rom: Callable[[Machine, None], None] = lambda _machine, _board: None


def on_kvm(vcpus: int) -> KvmAccelerator:
    return KvmAccelerator(recorder(Twin(), vcpus), vcpus=vcpus)


ACCELERATORS = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: ProcessAccelerator(GuestProcess(), vcpus=n), id="process"),
        pytest.param(on_kvm, marks=needs_several, id="kvm"),
    ],
)


@POLICIES
def test_messages_through_ram_keep_the_order_of_both_vcpus_writes(policy: Any) -> None:
    """Rules 12 and 13: at the exit of one the device has what the other one queued before it."""
    seen: list[tuple[int, int]] = []
    accel = ProcessAccelerator(GuestProcess(), policy=policy, vcpus=2)
    with machine_of(2, lambda offset, _size, value: seen.append((offset, value)), accel) as machine:
        machine.run(f"{guests.FILE}:messages", {"rounds": 50})
    assert seen == [(at, number) for number in range(1, 51) for at in (QUEUED, EXITS)]


@ACCELERATORS
def test_every_write_of_four_vcpus_into_one_ring_arrives_once_and_in_its_order(
    make: Callable[[int], Accelerator],
) -> None:
    count = 20_000
    seen: list[int] = []
    with machine_of(4, lambda _offset, _size, value: seen.append(value), make(4)) as machine:
        machine.run(f"{guests.FILE}:into_one_ring", {"count": count})
        assert machine.counters.exits_by["ring_full"] > 0
        assert machine.counters.halts == 4
    for index in range(4):
        mine = [value & 0xFF_FFFF for value in seen if value >> 24 == index]
        assert mine == list(range(count))
    assert len(seen) == 4 * count


def consecutive(seen: list[tuple[int, int]], index: int) -> int:
    """Check that a vCPU's numbers arrived in order from 0 on; how many they are."""
    mine = [value for offset, value in seen if offset // WINDOW == index]
    assert mine == list(range(len(mine)))
    return len(mine)


def test_what_four_vcpus_had_published_arrives_when_their_process_is_killed() -> None:
    seen: list[tuple[int, int]] = []

    def write(offset: int, _size: int, value: int) -> None:
        seen.append((offset, value))
        if len(seen) == 5000:
            assert machine.accel.pid is not None
            os.kill(machine.accel.pid, signal.SIGKILL)

    with machine_of(4, write) as machine, pytest.raises(PeerDied, match="SIGKILL"):
        machine.run(f"{guests.FILE}:for_ever")
    assert sum(consecutive(seen, index) for index in range(4)) == len(seen) >= 5000


@ACCELERATORS
def test_ctrl_c_between_exits_of_several_vcpus_loses_and_repeats_none(
    make: Callable[[int], Accelerator],
) -> None:
    """Each interrupted run is resumed: which vCPUs have halted is kept."""
    count, seen, interrupted = 600, list[tuple[int, int]](), 0

    def write(offset: int, _size: int, value: int) -> None:
        seen.append((offset, value))
        if offset % WINDOW == EXITS and value % 101 == 1:
            signal.raise_signal(signal.SIGINT)

    with machine_of(3, write, make(3)) as machine:
        machine.accel.load_guest(f"{guests.FILE}:numbers_of_others", {"count": count})
        done = False
        while not done:
            try:
                machine.resume()
                done = True
            except KeyboardInterrupt:
                interrupted += 1
        assert machine.counters.halts == 3
    assert [consecutive(seen, index) for index in range(3)] == [0, count, count]
    assert interrupted == 2 * 3


def test_staleness_delivers_what_sleeping_vcpus_queued_and_a_line_wakes_all_of_them() -> None:
    seen: list[int] = []

    def write(offset: int, _size: int, _value: int) -> None:
        seen.append(offset // WINDOW)
        if len(seen) == 4:
            machine.accel.set_irq(3, True)

    with machine_of(4, write, staleness=0.002) as machine:
        machine.run(f"{guests.FILE}:queue_and_wait")
        assert machine.counters.stale_drains > 0
    assert sorted(seen) == [0, 1, 2, 3]


def test_an_error_on_one_vcpu_ends_the_run_while_others_go_on() -> None:
    with (
        machine_of(3, lambda *_: None) as machine,
        pytest.raises(GuestError, match="ValueError: 5"),
    ):
        machine.run(f"{guests.FILE}:fail_beside_another")


def test_a_machine_stops_with_all_of_its_vcpus_and_continues() -> None:
    """A timer that is due ends none of the runs behind one that was stopped."""
    seen: list[tuple[int, int]] = []

    def write(offset: int, _size: int, value: int) -> None:
        seen.append((offset, value))
        if len(seen) % 1000 == 0:
            machine.stop()

    with machine_of(2, write) as machine:
        machine.accel.load_guest(f"{guests.FILE}:for_ever", {})
        for _ in range(3):
            before = len(seen)
            machine.loop.call_at(time.monotonic(), lambda: None)
            machine.resume()
            assert len(seen) - before >= 1000 - before % 1000
            assert machine.accel.signals() >= 0  # a request: the guest is stopped
    for index in range(2):
        consecutive(seen, index)


# --- who is served next ---


class Exiting:
    """vCPUs that exit all the time."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        together = vm.all_vcpus()
        assert isinstance(together, Vcpus)
        self.vcpus = together
        self._exits = [1] * len(vm.vcpus)
        for vcpu in vm.vcpus:
            vcpu.handle.enter()

    def wait(self) -> None:
        """Until each has exited; nobody takes its exit."""
        for vcpu, exits in zip(self._vm.vcpus, self._exits, strict=True):
            at = core.EXIT_SEQUENCE
            words = memoryview(vcpu.mapping)[at : at + 4].cast("I")
            while words[0] != exits:
                pass

    def answer(self, got: Outcome) -> int:
        """Let the vCPU that exited continue; its index."""
        assert isinstance(got, tuple)
        index = (got[1] - LOADED - DEVICE) // WINDOW
        self.vcpus.complete(0)
        self.vcpus.enter()
        self._exits[index] += 1
        return index


@contextmanager
def exiting(vcpus: int) -> Iterator[Exiting]:
    with within(LIMIT), vm_of(f"{guests.FILE}:loads", vcpus=vcpus) as vm:
        yield Exiting(vm)


def test_of_vcpus_that_exit_all_the_time_each_is_served_in_turn() -> None:
    order = []
    with exiting(4) as guest:
        for _ in range(20):
            guest.wait()
            order.append(guest.answer(guest.vcpus.run()))
    assert order == [0, 1, 2, 3] * 5


def test_vcpus_that_exit_all_the_time_keep_out_no_timer_and_no_timer_keeps_out_their_exits() -> (
    None
):
    with exiting(8) as guest:
        for index in range(24):
            guest.wait()
            assert guest.vcpus.run(None, 0, time.monotonic()) is Event.TIMED_OUT
            assert guest.answer(guest.vcpus.run(None, 0, time.monotonic())) == index % 8


def test_an_exit_that_nobody_handled_is_returned_again() -> None:
    with exiting(3) as guest:
        guest.wait()
        first = guest.vcpus.run()
        assert guest.vcpus.run() == first
        guest.answer(first)
        assert guest.vcpus.run() != first


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest_process_runs_one_guest_and_refuses_a_second_one(vcpus: int) -> None:
    """It would never begin: the vCPUs have halted for good."""
    with machine_of(vcpus, lambda *_: None) as machine:
        machine.run(f"{guests.FILE}:numbers", {"count": 2})
        with pytest.raises(RequestError, match="a guest has begun in this process"):
            machine.run(f"{guests.FILE}:numbers", {"count": 2})
