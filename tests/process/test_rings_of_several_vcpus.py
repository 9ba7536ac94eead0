"""vCPUs of a guest process that write into several rings: what arrives, and before which exits."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.region import Region
from coalesced.hv import abi
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers import vcpu_guests as guests
from helpers.hv_pair import POLICIES
from helpers.hv_processes import names_by, within

BASE, STEP, PORTS = 0xE000_0000, 0x1000, 0x300  # of the chips
EXITS = 0x800  # of a chip: from here on writes exit
FLUSHES = 0x900  # here the device drains all rings
CHIPS = 3
SERIALS = 1 << 20

Operation = tuple[int, int, int, int]  # kind, size, address, value
Entry = tuple[int, int]  # chip, value


class Board:
    """A machine with three chips that write down what reaches them, in one log."""

    def __init__(
        self, vcpus: int, rings: str | None, policy: WaitPolicy, in_c: bool = True
    ) -> None:
        self.accel = ProcessAccelerator(GuestProcess(), policy=policy, vcpus=vcpus)
        self.machine = Machine(self.accel, rings=rings)
        if not in_c:
            self.accel.exits = None
        self.ram = self.machine.add_ram(guests.RAM, 8 * guests.AREA)
        self.log: list[Entry] = []
        kinds = ("own",) * CHIPS if rings == "device" else ("vm", "own", "own")
        self.rings = [number if kind == "own" else -1 for number, kind in enumerate(kinds)]
        for number, kind in enumerate(kinds):
            chip = Chip(self, number, kind)
            self.machine.add_device(chip)
            self.machine.memory.map(chip.region, BASE + number * STEP)
            self.machine.ports.map(chip.port, PORTS + number)
        self.accel.load_guest(f"{guests.FILE}:programs", {})

    def run(self, programs: list[list[Operation]]) -> None:
        for index, program in enumerate(programs):
            text = json.dumps(program).encode()
            assert len(text) < guests.AREA
            self.ram.write(index * guests.AREA, len(text).to_bytes(8, "little") + text)
        self.log.clear()
        self.machine.resume()


class Chip:
    """A device with a region in memory and a port, which both queue."""

    def __init__(self, board: Board, number: int, ring: str) -> None:
        self.name = f"chip {number}"
        self._board = board
        self._number = number
        ring = "vm" if ring == "vm" else "own"
        queued, port = ((0, EXITS),), ((0, 1),)
        self.region = Region(self.name, STEP, self.read, self.write, coalesced=queued, ring=ring)
        self.port = Region(self.name, 1, self.read, self.write, coalesced=port, ring=ring)
        self.legacy_memory = [(0, self.region, 0)]
        self.legacy_ports = [(0, self.port, 0)]

    def read(self, _offset: int, _size: int) -> int:
        return 0

    def write(self, offset: int, _size: int, value: int) -> None:
        if offset == FLUSHES:
            self._board.machine.flush()
        self._board.log.append((self._number, value))

    def reset(self) -> None:
        """Nothing to reset."""

    def state(self) -> dict[str, int]:
        return {}


def operations(index: int, wanted: list[tuple[str, int, int]]) -> list[Operation]:
    """A vCPU's program: each write has a value of its own, which tells vCPU and place."""
    made: list[Operation] = []
    for what, chip, times in wanted:
        for _ in range(times if what == "queue" else 1):
            value = index * SERIALS + len(made)
            base = BASE + chip * STEP
            where = {"queue": base + 8, "exit": base + EXITS, "flush": base + FLUSHES}
            if what == "out":
                made.append((abi.OP_OUT, 1, PORTS + chip, value & 0xFF))
            elif what == "ram":
                made.append((abi.OP_STORE, 8, guests.RAM + 7 * guests.AREA + 8 * index, value))
            else:
                made.append((abi.OP_STORE, 4, where[what], value))
    return made


def check(board: Board, programs: list[list[Operation]]) -> None:
    """Every write arrived once, in its ring's order, and before the exits of rule 13."""
    for index, program in enumerate(programs):
        log = [
            (place, chip, value)
            for place, (chip, value) in enumerate(board.log)
            if value // SERIALS == index and value >= 256
        ]
        at = {value: place for place, _, value in log}
        sent = [op for op in program if op[0] == abi.OP_STORE and op[2] >= BASE and op[3] >= 256]
        assert sorted(at) == sorted(op[3] for op in sent)
        assert len(at) == len(log)
        before: dict[int, list[int]] = {}  # by ring
        for _, _, address, value in sent:
            chip, offset = divmod(address - BASE, STEP)
            ring, place = board.rings[chip], at[value]
            concerned = {-1, ring} if offset >= EXITS else {ring}
            if offset == FLUSHES:
                concerned |= before.keys()
            for each in concerned:
                assert all(other < place for other in before.get(each, [])), (index, value)
            before.setdefault(ring, []).append(place)


def check_ports(board: Board, programs: list[list[Operation]]) -> None:
    """Of the outs, whose values are too short to tell their vCPU: as many as were sent."""
    outs = sum(op[0] == abi.OP_OUT for program in programs for op in program)
    short = sum(op[0] != abi.OP_OUT and op[2] >= BASE and op[3] < 256 for p in programs for op in p)
    assert sum(value < 256 for _, value in board.log) == outs + short


steps = st.tuples(
    st.sampled_from(["queue"] * 6 + ["exit", "exit", "out", "ram", "flush"]),
    st.integers(0, CHIPS - 1),
    st.sampled_from([1, 2, 3, 60, 110, 180]),
)


@pytest.fixture(
    scope="module",
    params=[
        (1, None, "BLOCK", True),
        (2, None, "ADAPTIVE", False),
        (3, "device", "ADAPTIVE", True),
    ],
    ids=lambda param: f"{param[0]} vCPUs",
)
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    vcpus, rings, policy, in_c = request.param
    made = Board(vcpus, rings, WaitPolicy[policy], in_c)
    yield made
    made.machine.close()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), staleness=st.sampled_from([None, None, 0.001]))
def test_every_write_arrives_once_in_the_order_of_its_ring_and_before_the_exits_of_rule_13(
    board: Board, data: st.DataObject, staleness: float | None
) -> None:
    """With rings that fill up, are reported half full, flushed, and drained for their age."""
    count = len(board.accel._vm.vcpus)
    wanted = st.lists(st.lists(steps, max_size=12), min_size=count, max_size=count)
    programs = [operations(index, each) for index, each in enumerate(data.draw(wanted))]
    board.machine.set_staleness(staleness)
    with within(30):
        board.run(programs)
    check(board, programs)
    check_ports(board, programs)


def test_what_rings_hold_when_the_guest_process_is_killed_arrives_and_leaves_nothing() -> None:
    """The device kills it while both an own ring and the VM's hold entries."""
    board = Board(1, None, WaitPolicy.ADAPTIVE)
    pid = board.accel.pid
    assert pid is not None
    killer = Region("killer", 8, lambda *_: 0, lambda *_: os.kill(pid, signal.SIGKILL))
    board.machine.memory.map(killer, 0xD000_0000)
    program = [
        *(
            (abi.OP_STORE, 4, BASE + chip * STEP, 1000 * chip + n)
            for n in range(9)
            for chip in (1, 2)
        ),
        (abi.OP_STORE, 4, BASE, 7),
        (abi.OP_STORE, 4, 0xD000_0000, 0),
    ]
    with within(30), board.machine, pytest.raises(PeerDied, match="SIGKILL"):
        board.run([program])
    assert board.log == [(0, 7), *((chip, 1000 * chip + n) for chip in (1, 2) for n in range(9))]
    assert names_by(pid, os.getpid()) == []


BELL, OTHER = guests.DEVICE + 0x200_0000, guests.DEVICE + 0x300_0000


def with_a_bell(board: Board, ring: Callable[[int], None], exit_: Callable[[], None]) -> None:
    """Map a device whose register is posted in its own ring, and another one that exits."""
    bell = Region(
        "bell", 8, lambda *_: 0, lambda _o, _s, value: ring(value), posted=((0, 4),), ring="own"
    )

    def write(_offset: int, _size: int, _value: int) -> None:
        exit_()

    board.machine.memory.map(bell, BELL)
    board.machine.memory.map(Region("other", 8, lambda *_: 0, write), OTHER)


@POLICIES
@pytest.mark.parametrize("in_c", [True, False])
def test_a_posted_write_reaches_its_device_although_the_guest_exits_to_another_one(
    policy: WaitPolicy, in_c: bool
) -> None:
    """That exit does not drain the ring, and nothing follows it: staleness is off."""
    board = Board(1, None, policy, in_c)
    with_a_bell(board, lambda value: board.ram.write(0, value.to_bytes(4, "little")), lambda: None)
    with within(30), board.machine as machine:
        machine.run(f"{guests.FILE}:post_and_exit", {"bell": BELL, "exits": OTHER, "rounds": 200})
        assert machine.counters.exits_by["load"] == 200


def test_a_vcpu_that_posts_without_end_does_not_keep_out_the_exit_of_another_one() -> None:
    board = Board(2, None, WaitPolicy.ADAPTIVE)
    with_a_bell(board, lambda _value: None, lambda: board.ram.write(0, (1).to_bytes(4, "little")))
    with within(30), board.machine as machine:
        machine.run(f"{guests.FILE}:post_beside_an_exit", {"bell": BELL, "exits": OTHER})
        assert machine.counters.halts == 2


@POLICIES
def test_half_a_ring_reaches_its_device_while_the_guest_runs_on_without_exits(
    policy: WaitPolicy,
) -> None:
    """It waits for RAM, in which the device answers."""
    board = Board(1, None, policy)
    seen: list[int] = []

    def write(_offset: int, _size: int, value: int) -> None:
        seen.append(value)
        board.ram.write(0, (1).to_bytes(4, "little"))

    answering = Region("answering", STEP, lambda *_: 0, write, coalesced=((0, STEP),), ring="own")
    board.machine.memory.map(answering, guests.DEVICE + 0x100_0000)
    with within(30), board.machine as machine:
        machine.run(
            f"{guests.FILE}:fill_and_wait", {"address": guests.DEVICE + 0x100_0000, "count": 85}
        )
        assert seen == [7] * 85
        assert machine.counters.exits_by["hlt"] == machine.counters.exits
        assert [queue.wakeups for queue in machine.queues if queue.name == "answering"] == [1]
