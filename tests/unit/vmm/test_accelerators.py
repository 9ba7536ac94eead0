"""A guest sees the same, and its devices see the same, whichever accelerator runs it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import GuestError, PeerDied, RequestError
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.base import Accelerator, GuestMemory
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator, place
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import Recorder, Seen
from helpers.vmm_guests import CALLS, FILE, RESULTS, RESULTS_SIZE
from helpers.vmm_model import ModelBoard, Operation

RAM = [(0, 0x2000), (0x2000, 0x2000), (0x5000, 0x1000)]  # two that touch, then a gap
DEVICES = [("low", 0x4000, 0x1000), ("high", 0x20000, 0x1800), ("next", 0x21800, 0x100)]
PORTS = [("ports", 0x200, 0x40)]
ZONES = {
    "low": ((0, 0x1000),),
    "high": ((0x10, 0x1000), (0x1100, 0x700)),
    "next": ((0, 0x80),),
    "ports": ((8, 8), (0x10, 0x20)),
}


class Board:
    """A machine with RAM and recorders, and room for a guest's results."""

    def __init__(self, accel: Accelerator, coalesce: bool = True) -> None:
        self.machine = Machine(accel, coalesce=coalesce)
        self.log: list[tuple[str, Seen]] = []
        for start, size in RAM:
            self.machine.add_ram(start, size)
        self.results: GuestMemory = self.machine.add_ram(RESULTS, RESULTS_SIZE, declared=False)
        for space, devices in ((self.machine.memory, DEVICES), (self.machine.ports, PORTS)):
            for name, base, size in devices:
                device = Recorder(name, size, coalesced=ZONES[name], log=self.log)
                self.machine.add_device(device)
                space.map(device.region, base)

    def run(self, guest: str, **arguments: object) -> object:
        self.machine.run(f"{FILE}:{guest}", arguments)
        size = int.from_bytes(self.results.read(0, 8), "little")
        return json.loads(self.results.read(8, size)) if size else None

    def run_program(self, steps: list[list[Operation]]) -> object:
        data = json.dumps(steps).encode()
        self.results.write(0, len(data).to_bytes(8, "little") + data)
        return self.run("program")


def model() -> tuple[ModelBoard, list[tuple[str, Seen]]]:
    log: list[tuple[str, Seen]] = []
    memory, ports = (
        [(base, Recorder(name, size, log=log)) for name, base, size in devices]
        for devices in (DEVICES, PORTS)
    )
    return ModelBoard(RAM, memory, ports), log


# --- random programs ---

edges = [at + side for start, size in RAM for at in (start, start + size) for side in range(-8, 8)]
edges += [
    b + o + d for _, b, s in DEVICES for o in (0, 0x10, 0x80, 0x1000, s) for d in range(-8, 8)
]
addresses = st.one_of(
    st.sampled_from([at for at in edges if at >= 0]),
    st.integers(0x4000, 0x7000),
    st.integers(0x20000, 0x22000),
    st.integers((1 << 64) - 16, (1 << 64) - 1),
)
ports_near = st.one_of(st.integers(0x1F8, 0x248), st.integers(0xFFF8, 0x10008))
u64 = st.integers(0, (1 << 64) - 1)
sizes = st.sampled_from([1, 1, 2, 4, 8])
odd_sizes = st.sampled_from([0, 3, 5, 7, 9, 16, 255])
operations = st.one_of(
    st.tuples(st.sampled_from([OP_LOAD, OP_STORE]), sizes, addresses, u64),
    st.tuples(st.just(OP_STORE), sizes, addresses, u64),
    st.tuples(st.sampled_from([OP_IN, OP_OUT]), st.sampled_from([1, 2, 4]), ports_near, u64),
)
wrong = st.one_of(
    st.tuples(st.integers(0, 3), odd_sizes, st.integers(0, 0x30000), u64),
    st.tuples(st.integers(4, 9), sizes, addresses, u64),
)
store_runs = st.builds(
    lambda start, count, size, value: [
        (OP_STORE, size, start + i * size, value ^ i) for i in range(count)
    ],
    st.sampled_from([0x1FF0, 0x3FF8, 0x4FF0, 0x20000, 0x20FF1, 0x217F0]),
    st.integers(1, 200),
    sizes,
    u64,
)
steps = st.one_of(
    st.lists(operations, min_size=1, max_size=12),
    store_runs,
    st.builds(lambda a, w, b: [*a, w, *b], st.lists(operations, max_size=5), wrong, store_runs),
)
programs = st.lists(steps, min_size=1, max_size=8)


class LongProgram:
    """Several programs in a row, one start of a process being worth many of them."""

    def __init__(self, parts: list[list[list[Operation]]]) -> None:
        self.steps = [step for part in parts for step in part]

    def __repr__(self) -> str:
        return f"<{sum(map(len, self.steps))} operations in {len(self.steps)} steps>"


def outcome(board: Board, program: list[list[Operation]]) -> tuple[object, ...]:
    return board.run_program(program), board.log, board.machine.state()


@pytest.mark.slow
@settings(max_examples=40)
@given(programs)
def test_direct_does_what_the_model_expects(program: list[list[Operation]]) -> None:
    expected, log = model()
    results = [list(expected.run(step)) for step in program]
    board = Board(DirectAccelerator())
    assert board.run_program(program) == results
    assert board.log == log
    ram = b"".join(memory.read(0, memory.size) for memory in board.machine.ram)
    assert ram == bytes(expected.ram.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ring_pages", "policy", "coalesce"),
    [
        (1, WaitPolicy.ADAPTIVE, True),
        pytest.param(2, WaitPolicy.BLOCK, True, marks=pytest.mark.heavy),
        pytest.param(1, WaitPolicy.POLL, True, marks=pytest.mark.heavy),
        pytest.param(1, WaitPolicy.BLOCK, False, marks=pytest.mark.heavy),
        pytest.param(0, WaitPolicy.ADAPTIVE, True, marks=pytest.mark.heavy),
    ],
)
@settings(
    max_examples=3,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would start a process a step
)
@given(long=st.lists(programs, min_size=4, max_size=8).map(LongProgram))
def test_process_and_direct_end_alike(
    ring_pages: int, policy: WaitPolicy, coalesce: bool, long: LongProgram
) -> None:
    """Same loads, same errors, same accesses of the devices in the same order, same state."""
    program = long.steps
    direct = outcome(Board(DirectAccelerator()), program)
    board = Board(ProcessAccelerator(GuestProcess(), ring_pages, policy), coalesce)
    with board.machine:
        got = outcome(board, program)
        assert got == direct
        counters = board.machine.counters
        writes = sum(access[0] == "write" for _, access in board.log)
        assert counters.writes >= writes - counters.writes  # a straddle is one write, two accesses
        assert (counters.coalesced > 0) <= (coalesce and ring_pages > 0)
        assert counters.failures == []


def process(policy: WaitPolicy = WaitPolicy.ADAPTIVE, ring_pages: int = 1) -> ProcessAccelerator:
    return ProcessAccelerator(GuestProcess(), ring_pages, policy)


@pytest.mark.slow
def test_odd_calls_give_or_raise_the_same() -> None:
    direct = Board(DirectAccelerator()).run("odd_calls")
    board = Board(process())
    with board.machine:
        got = board.run("odd_calls")
    assert isinstance(direct, list)
    assert isinstance(got, list)
    # An uncontiguous array is refused by numpy here, by the check of `direct` there.
    assert dict(zip(CALLS, got, strict=True)) == dict(zip(CALLS, direct, strict=True))


@pytest.mark.slow
def test_an_error_of_the_guest_names_the_guests_line_on_both() -> None:
    texts = []
    for accel in (DirectAccelerator(), process()):
        board = Board(accel)
        with board.machine, pytest.raises(GuestError) as raised:
            board.run("poll", address=-1)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]
    assert re.fullmatch(
        rf"{re.escape(FILE)}:\d+: "
        r"OverflowError: expected a whole number of 0 to 2\*\*64 - 1, got -1",
        texts[0],
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [DirectAccelerator, process])
def test_a_guest_that_is_not_there_is_refused(make: Callable[[], Accelerator]) -> None:
    with Machine(make()) as machine, pytest.raises(RequestError, match="no function 'nobody'"):
        machine.run(f"{FILE}:nobody")


# --- the guest process ---


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(process())
    with board.machine:
        yield board


@pytest.mark.slow
def test_what_a_dying_guest_had_published_reaches_the_devices(board: Board) -> None:
    with pytest.raises(PeerDied, match="the guest process ended: exit status 7"):
        board.run("store_and_die", address=0x20010, count=100, status=7)
    assert board.log == [("high", ("write", 0x10 + i, 1, i + 1)) for i in range(100)]
    assert board.machine.counters.exits == 0


@pytest.mark.slow
def test_a_killed_guest_is_told_with_its_signal(board: Board) -> None:
    pid, ring = board.machine.accel.pid, board.machine.accel.ring
    assert pid is not None
    assert ring is not None

    def kill_once_published() -> None:
        if ring.pending():
            os.kill(pid, signal.SIGKILL)

    board.machine.loop.call_every(0.001, kill_once_published)
    with pytest.raises(PeerDied, match="the guest process ended: killed by SIGKILL"):
        board.run("store_for_ever", address=0x20010)
    assert board.log == [("high", ("write", 0x10, 1, 1))]


@pytest.mark.slow
@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_queued_write_arrives_although_the_guest_does_not_exit(policy: WaitPolicy) -> None:
    """By the staleness timer, or because the VMM watches the ring."""
    accel = process(policy)
    machine = Machine(accel, staleness=None if policy is WaitPolicy.POLL else 0.001)
    arrived: list[int] = []

    class Arrived(Exception):
        pass

    device = Recorder("r", 0x10, coalesced=((0, 0x10),))
    machine.memory.map(device.region, 0x20000)

    def look() -> None:
        if device.seen:
            arrived.append(machine.counters.exits)
            raise Arrived

    machine.loop.call_every(0.002, look)
    with machine, pytest.raises(Arrived):
        machine.run(f"{FILE}:store_for_ever", {"address": 0x20000})
    assert arrived == [0]
    assert machine.counters.coalesced == 1
    assert machine.counters.stale_drains == (0 if policy is WaitPolicy.POLL else 1)


@pytest.mark.slow
@pytest.mark.parametrize("make", [DirectAccelerator, process])
def test_descriptors_are_served_although_the_guest_never_waits(
    make: Callable[[], Accelerator],
) -> None:
    """A guest that polls a register for a frame must not keep the frame out."""
    machine = Machine(make())
    device = Recorder("r", 0x10)
    machine.memory.map(device.region, 0x20000)
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")

    def frame() -> None:
        os.read(read_end, 1)
        device.bytes[0] = 1

    machine.loop.add_reader(read_end, frame)
    deadline = time.monotonic() + 60

    def give_up() -> None:
        assert time.monotonic() < deadline, "the descriptor was never served"

    machine.loop.call_every(0.1, give_up)
    with machine:
        machine.run(f"{FILE}:poll", {"address": 0x20000})
    for fd in (read_end, write_end):
        os.close(fd)


@pytest.mark.slow
def test_zones_follow_a_mapping_that_changes_while_the_guest_runs() -> None:
    """Register, write, see no exit; unmap, write, see an exit."""
    accel = process()
    machine = Machine(accel, staleness=0.001)
    device = Recorder("r", 0x10, coalesced=((0, 0x10),))
    mapping = machine.memory.map(device.region, 0x20000)
    log = io.StringIO()

    class Done(Exception):
        pass

    def change() -> None:
        nonlocal mapping
        if device.seen:
            machine.memory.unmap(mapping)
            log.write("unmapped")
            raise Done

    machine.loop.call_every(0.001, change)
    with machine, pytest.raises(Done):
        machine.run(f"{FILE}:store_for_ever", {"address": 0x20000})
    assert machine.coalescing.kind_of(0x20000, 1, False) == "no_zone"
    assert machine.counters.exits == 0


@pytest.mark.slow
@pytest.mark.parametrize("ring_pages", [0, 1])
def test_a_kernel_without_a_ring_says_so(ring_pages: int) -> None:
    with Machine(process(ring_pages=ring_pages)) as machine:
        assert machine.coalescing.supported == {False: ring_pages > 0, True: ring_pages > 0}
        assert (machine.accel.ring is None) == (ring_pages == 0)


@pytest.mark.slow
@pytest.mark.parametrize("cpus", ["same", "split", "any"])
def test_placement_is_for_the_run_and_given_back(cpus: str) -> None:
    before = os.sched_getaffinity(0)
    if cpus == "split" and len(before) < 2:
        pytest.skip("one CPU")
    accel = ProcessAccelerator(GuestProcess(), 1, WaitPolicy.ADAPTIVE, cpus)
    ours, pid = os.sched_getaffinity(0), accel.pid
    assert pid is not None
    theirs = os.sched_getaffinity(pid)
    accel.close()
    assert os.sched_getaffinity(0) == before
    if cpus == "any":
        assert ours == theirs == before
    else:
        assert len(ours) == len(theirs) == 1
        assert (ours == theirs) == (cpus == "same")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
def test_each_placement_may_begin_with_another_cpu() -> None:
    before = os.sched_getaffinity(0)
    placed = []
    try:
        for first in range(len(before) + 1):
            placed.append(place(0, "same", first))
            os.sched_setaffinity(0, before)
    finally:
        os.sched_setaffinity(0, before)
    assert placed == [{cpu} for cpu in (*sorted(before), min(before))]


def test_placing_anywhere_needs_no_process() -> None:
    place(-1, "any")


@pytest.mark.slow
def test_closing_ends_the_guest_process_and_may_be_repeated() -> None:
    accel = process()
    pid = accel.pid
    assert pid is not None
    assert psutil.pid_exists(pid)
    accel.close()
    accel.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("ring_pages", [-1, 4097])
def test_a_ring_of_a_wrong_size_leaves_no_process_behind(ring_pages: int) -> None:
    guest = GuestProcess()
    with pytest.raises(ValueError, match=f"1 to 4096 pages, got {ring_pages}"):
        ProcessAccelerator(guest, ring_pages)
    assert not psutil.pid_exists(guest.pid)


# --- interrupts on direct ---


def test_direct_waits_for_an_interrupt_and_serves_the_loop_meanwhile() -> None:
    board = Board(DirectAccelerator())
    accel = board.machine.accel
    board.machine.loop.call_at(time.monotonic() + 0.01, lambda: accel.set_irq(3, True))
    assert board.run("wait", lines=0b1010) == 0b1000
    accel.set_irq(3, False)
    assert board.run("wait", lines=0b1010, timeout=0.001) == 0
