"""The order in which queued writes and exits reach the devices."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from coalesced.hv.errors import GuestError, PeerDied, ProtocolError, RequestError
from coalesced.hv.outcome import Event
from coalesced.vmm.access import FAILURES_KEPT
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import (
    CRASH,
    KICKED,
    FakeAccelerator,
    Queued,
    Recorder,
    Seen,
    Step,
    in_,
    load,
    out,
    store,
)

MEM, PORT = 0xA0000, 0x100


class Board:
    """A machine with a memory device at MEM and a port device at PORT, one log for both."""

    def __init__(self, *script: Step, accel: FakeAccelerator | None = None) -> None:
        self.accel = accel or FakeAccelerator(script)
        self.machine = Machine(self.accel)
        self.log: list[tuple[str, Seen]] = []
        self.mem = Recorder("mem", 0x100, coalesced=((0, 0x80),), log=self.log)
        self.port = Recorder("port", 0x10, coalesced=((0, 8),), log=self.log)
        for device in (self.mem, self.port):
            self.machine.add_device(device)
        self.machine.memory.map(self.mem.region, MEM)
        self.machine.ports.map(self.port.region, PORT)

    def run(self) -> list[tuple[str, Seen]]:
        self.machine.run("guest")
        return self.log


QUEUED = [Queued(MEM + 1, 1, 0x11), Queued(PORT + 1, 1, 0x22, True), Queued(MEM + 2, 2, 0x3333)]
ARRIVED = [
    ("mem", ("write", 1, 1, 0x11)),
    ("port", ("write", 1, 1, 0x22)),
    ("mem", ("write", 2, 2, 0x3333)),
]


# --- drained before every exit ---


@pytest.mark.parametrize(
    ("exit_", "access"),
    [
        (load(MEM + 1), ("mem", ("read", 1, 1, 0x11))),
        (store(MEM + 0x90, 5), ("mem", ("write", 0x90, 1, 5))),
        (in_(PORT + 1), ("port", ("read", 1, 1, 0x22))),
        (out(PORT + 9, 6), ("port", ("write", 9, 1, 6))),
    ],
    ids=["load", "store", "in", "out"],
)
def test_what_was_queued_before_an_access_arrives_before_it(
    exit_: Step, access: tuple[str, Seen]
) -> None:
    assert Board(*QUEUED, exit_).run() == [*ARRIVED, access]


@pytest.mark.parametrize("last", [None, KICKED, Event.TIMED_OUT], ids=["halt", "kick", "no exit"])
def test_what_was_queued_arrives_before_the_guest_counts_as_halted(last: Step | None) -> None:
    script = [*QUEUED] if last is None else [*QUEUED, last]
    assert Board(*script).run() == ARRIVED


def test_mmio_queued_before_a_port_access_is_seen_first() -> None:
    """The order that kvmtool gets wrong: it drains before MMIO exits only."""
    board = Board(Queued(MEM, 1, 1), out(PORT + 9, 2), Queued(MEM, 1, 3), in_(PORT + 9))
    assert [(name, access[0], access[3]) for name, access in board.run()] == [
        ("mem", "write", 1),
        ("port", "write", 2),
        ("mem", "write", 3),
        ("port", "read", 2),
    ]


def test_loads_are_answered_with_what_the_device_read() -> None:
    board = Board(Queued(MEM, 4, 0x44332211), load(MEM, 2), load(MEM + 0x1000, 4), in_(0x500, 2))
    board.run()
    assert board.accel.completed == [0x2211, 0, 0xFFFF]


def test_what_was_queued_before_a_crash_arrives_before_it_is_told() -> None:
    board = Board(*QUEUED, CRASH)
    with pytest.raises(GuestError, match=r"guest.py:1: it crashed"):
        board.run()
    assert board.log == ARRIVED


def test_what_a_dead_guest_had_published_arrives_before_its_death_is_told() -> None:
    board = Board(*QUEUED, PeerDied("the guest process ended: killed by SIGKILL"))
    with pytest.raises(PeerDied, match="SIGKILL"):
        board.run()
    assert board.log == ARRIVED
    assert board.machine.counters.coalesced == 3


def test_a_filled_ring_is_drained_without_an_exit() -> None:
    board = Board(*QUEUED, Event.RING_FILLED, lambda: seen.extend(board.log))
    seen: list[tuple[str, Seen]] = []
    board.run()
    assert seen == ARRIVED
    assert board.machine.counters.exits == 1  # the halt


def test_an_unknown_exit_is_named() -> None:
    with pytest.raises(ProtocolError, match="exit_reason is 17"):
        Board((17, 0, 0, False, 0)).run()


# --- a full ring ---


@pytest.mark.parametrize("port", [False, True], ids=["store", "out"])
@pytest.mark.parametrize("count", [1, 7, 8, 50, 169])
def test_a_write_that_found_the_ring_full_goes_behind_what_filled_it(
    count: int, port: bool
) -> None:
    """However many those were, and whichever space it goes to."""
    queued = [Queued(MEM + n % 0x80, 1, n & 0xFF) for n in range(count)]
    last = out(PORT + 3, 0x5A) if port else store(MEM + 0x7E, 0x5AA5, 2)
    board = Board(*queued, last, *queued, load(MEM))
    behind = ("port", ("write", 3, 1, 0x5A)) if port else ("mem", ("write", 0x7E, 2, 0x5AA5))
    arrived = [("mem", ("write", n % 0x80, 1, n & 0xFF)) for n in range(count)]
    assert board.run()[:-1] == [*arrived, behind, *arrived]
    counters = board.machine.counters
    assert (counters.coalesced, counters.single_writes) == (2 * count, 1)
    assert counters.exits_by == {"ring_full": 1, "load": 1, "hlt": 1}


@pytest.mark.parametrize("count", [1, 20])
def test_a_write_that_found_the_ring_full_and_raises_is_told_of_once(count: int) -> None:
    board = Board(*[Queued(MEM + 1, 1, 0)] * count, store(MEM + 2, 7), load(MEM + 1))

    def refuse(_offset: int, value: int) -> None:
        if value == 7:
            raise ValueError("seven")

    board.mem.on_write = refuse
    board.run()
    assert board.machine.counters.failures == [
        f"memory: write of 1 bytes 0x7 at {MEM + 2:#x} (mem): ValueError: seven"
    ]
    assert board.machine.counters.coalesced == count
    assert board.log[-1] == ("mem", ("read", 1, 1, 0))


# --- a flush while draining ---


def test_a_flush_during_a_drain_is_a_no_op_and_the_order_stays() -> None:
    """A device that asks for one gets nothing: the outer drain keeps the order."""
    board = Board(*(Queued(MEM + i, 1, i) for i in range(20)))
    flushed: list[int] = []
    board.mem.on_write = lambda _o, _v: flushed.append(board.machine.flush())
    board.run()
    assert [access[1] for _, access in board.log] == list(range(20))
    assert flushed == [0] * 20


def test_a_flush_during_an_exit_brings_what_was_queued_meanwhile() -> None:
    """Outside a drain it is a real one."""
    board = Board()

    def queue_and_flush(offset: int, _value: int) -> None:
        if offset == 0x90:
            board.accel.put(*QUEUED)
            assert board.machine.flush() == 3

    board.mem.on_write = queue_and_flush
    board.accel.script = iter([store(MEM + 0x90, 1)])
    assert board.run() == [*ARRIVED, ("mem", ("write", 0x90, 1, 1))]


def test_whoever_appends_during_a_drain_does_not_keep_the_exit_waiting() -> None:
    """At an exit the devices get what was in the ring then, however fast a producer appends."""
    board = Board(Queued(MEM, 1, 1), store(MEM + 0x90, 1), store(MEM + 0x91, 2))
    board.mem.on_write = lambda at, _v: board.accel.put(Queued(MEM, 1, 7)) if at == 0 else None
    board.run()
    assert [access[1] for _, access in board.log] == [0, 0x90, 0, 0x91, 0]


def test_an_entry_that_breaks_the_rules_is_reported_at_the_exit_behind_it() -> None:
    """What came before it reaches its device first."""
    board = Board(Queued(MEM, 1, 1), Queued(0xFFFF, 4, 1, True), store(MEM + 0x90, 1))
    with pytest.raises(ProtocolError, match="slot 1 has address 0xffff"):
        board.run()
    assert [access[1] for _, access in board.log] == [0]


def test_a_stale_drain_takes_what_is_there_and_does_not_chase_the_guest() -> None:
    """The guest runs on meanwhile: it could queue for ever."""
    board = Board(Queued(MEM, 1, 0), Event.RING_FILLED, lambda: batches.append(len(board.log)))
    batches: list[int] = []
    board.mem.on_write = lambda _o, v: board.accel.put(Queued(MEM, 1, v + 1)) if v < 3 else None
    board.run()
    assert batches == [1]
    assert len(board.log) == 2  # the halt brings what the first drain left


# --- devices that raise ---


def test_a_device_that_asks_for_a_flush_in_a_drain_does_not_lengthen_it() -> None:
    """One pass stays one, however much the guest queues meanwhile."""
    board = Board()

    def again(_offset: int, _value: int) -> None:
        board.machine.flush()
        board.accel.put(Queued(MEM, 1, 7))

    board.mem.on_write = again
    board.accel.put(Queued(MEM, 1, 7))
    assert [board.machine.flush() for _ in range(3)] == [1, 1, 1]


def test_a_queued_write_that_raises_is_consumed_told_and_counted() -> None:
    def refuse(offset: int, _value: int) -> None:
        if offset == 1:
            raise ValueError("not this one")

    board = Board(*QUEUED, store(MEM + 1, 7), load(MEM))
    board.mem.on_write = refuse
    board.run()
    assert [entry for entry in board.log if entry[1][0] == "write"] == ARRIVED[1:]
    counters = board.machine.counters
    assert counters.failed_writes == 2
    assert counters.failures == [
        "memory: write of 1 bytes 0x11 at 0xa0001 (mem): ValueError: not this one",
        "memory: write of 1 bytes 0x7 at 0xa0001 (mem): ValueError: not this one",
    ]


def test_a_read_that_raises_reads_as_zero_and_is_told_as_a_read() -> None:
    board = Board(load(MEM + 0x100 - 2, 2))
    board.machine.memory.map(board.mem.region, MEM + 0x1000)
    object.__setattr__(board.mem.region, "read", lambda _o, _s: 1 // 0)
    board.run()
    assert board.accel.completed == [0]
    assert board.machine.counters.failures == [
        "memory: read of 2 bytes at 0xa00fe (mem): ZeroDivisionError: "
        "integer division or modulo by zero"
    ]


class Cancelled(BaseException):
    """As asyncio has one."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GeneratorExit(), "GeneratorExit"),
        (Cancelled("all"), "Cancelled: all"),
        (SystemExit(3), "SystemExit: 3"),
        (Unspeakable(), "Unspeakable: its text cannot be read: ValueError"),
        (ValueError("two\nlines \x1b[31m"), "ValueError: two lines \\x1b[31m"),
    ],
)
@pytest.mark.parametrize("queued", [2, 20])
def test_whatever_a_device_raises_is_one_line(error: BaseException, said: str, queued: int) -> None:
    board = Board(*(Queued(MEM + at, 1, 9) for at in range(queued)))

    def refuse(offset: int, _value: int) -> None:
        if offset == 1:
            raise error

    board.mem.on_write = refuse
    board.run()
    assert len(board.log) == queued - 1
    assert board.machine.counters.failures == [
        f"memory: write of 1 bytes 0x9 at {MEM + 1:#x} (mem): {said}"
    ]


def test_ctrl_c_inside_a_device_is_ctrl_c() -> None:
    board = Board(*QUEUED)

    def interrupted(_offset: int, _value: int) -> None:
        raise KeyboardInterrupt

    board.mem.on_write = interrupted
    with pytest.raises(KeyboardInterrupt):
        board.run()


@pytest.mark.parametrize("answer", [None, 1.5, "1", np.zeros(2, np.uint8), [1]])
def test_a_read_that_gives_no_int_reads_as_zero_and_is_reported(answer: object) -> None:
    board = Board(load(MEM, 4))
    object.__setattr__(board.mem.region, "read", lambda _o, _s: answer)
    board.run()
    assert board.accel.completed == [0]
    assert board.machine.counters.failures == [
        f"memory: read of 4 bytes at 0xa0000 (mem): TypeError: read() gave "
        f"{type(answer).__name__}, expected an int"
    ]


@pytest.mark.parametrize(
    ("answer", "value"), [(-1, 0xFFFF), (1 << 70 | 5, 5), (np.uint8(7), 7), (True, 1)]
)
def test_of_a_number_that_is_read_the_low_bytes_count(answer: int, value: int) -> None:
    board = Board(load(MEM, 2))
    object.__setattr__(board.mem.region, "read", lambda _o, _s: answer)
    board.run()
    assert board.accel.completed == [value]
    assert board.machine.counters.failures == []


def test_the_death_of_the_guest_is_no_failure_of_a_device() -> None:
    """A device that moves stops the guest first, and may find it dead."""
    board = Board(Queued(MEM, 1, 1))

    def dead(_offset: int, _value: int) -> None:
        raise PeerDied("the guest process ended")

    board.mem.on_write = dead
    with pytest.raises(PeerDied):
        board.run()
    assert board.machine.counters.failed_writes == 0


def test_the_texts_of_the_first_failures_are_kept_and_all_are_counted() -> None:
    board = Board(*(Queued(MEM, 1, i) for i in range(FAILURES_KEPT + 5)))

    def refuse(_offset: int, value: int) -> None:
        raise OSError(value)

    board.mem.on_write = refuse
    board.run()
    assert board.machine.counters.failed_writes == FAILURES_KEPT + 5
    assert len(board.machine.counters.failures) == FAILURES_KEPT


# --- counters ---


def test_exits_are_counted_by_what_caused_them() -> None:
    board = Board(
        Queued(MEM, 1, 0),
        load(MEM),  # load
        in_(PORT),  # pio
        out(PORT + 9, 0),  # pio
        out(PORT + 7, 0, 2),  # pio: straddles the zone's end, but what counts is that it is a port
        store(MEM + 0x7E, 0, 2),  # wholly in a zone: only a full ring makes it exit
        out(PORT, 0),  # the same
        store(MEM + 0x7F, 0, 2),  # straddle
        store(MEM + 0x80, 0),  # no zone
        store(0x5000, 0),  # no zone, and no device
        KICKED,  # none
        Event.TIMED_OUT,
    )
    board.run()
    counters = board.machine.counters
    assert dict(counters.exits_by) == {
        "load": 1,
        "pio": 3,
        "ring_full": 2,
        "straddle": 1,
        "no_zone": 2,
        "hlt": 1,
    }
    assert counters.exits == 10
    assert (counters.coalesced, counters.single_writes, counters.writes) == (1, 7, 8)
    assert counters.hottest[PORT, True] == 2
    assert counters.hottest[MEM, False] == 1
    assert sum(counters.hottest.values()) == 9


# --- zones ---


def zones(accel: FakeAccelerator) -> list[tuple[object, ...]]:
    return [entry for entry in accel.log if entry[0] in ("register", "unregister")]


def test_mapping_registers_zones_and_unmapping_takes_them_away() -> None:
    board = Board()
    assert zones(board.accel) == [
        ("register", MEM, 0x80, False),
        ("register", PORT, 8, True),
    ]
    board.accel.log.clear()
    mapping = board.machine.memory.find(MEM).mapping
    assert mapping is not None
    board.machine.memory.unmap(mapping)
    assert board.accel.log == [("pause",), ("unregister", MEM, 0x80, False)]


def test_before_a_change_the_guest_stops_then_the_queue_is_flushed_then_zones_follow() -> None:
    board = Board()
    mapping = board.machine.memory.find(MEM).mapping
    assert mapping is not None
    board.accel.put(Queued(MEM + 4, 1, 0x77))
    board.accel.log.clear()
    board.mem.on_write = lambda _o, _v: board.accel.log.append(("arrived",))
    board.machine.memory.unmap(mapping)
    assert board.accel.log == [("pause",), ("arrived",), ("unregister", MEM, 0x80, False)]
    assert board.mem.seen == [("write", 4, 1, 0x77)]


def test_when_the_owner_of_a_zone_changes_the_old_is_gone_before_the_new_counts() -> None:
    board = Board()
    board.accel.log.clear()
    board.machine.memory.map(Recorder("over", 0x10, coalesced=((0, 0x10),)).region, MEM + 0x78)
    assert zones(board.accel) == [
        ("unregister", MEM, 0x80, False),
        ("register", MEM, 0x78, False),
        ("register", MEM + 0x78, 0x10, False),
    ]


def test_zones_that_stay_are_left_alone() -> None:
    board = Board()
    board.accel.log.clear()
    board.machine.memory.map(Recorder("far", 0x10, coalesced=((0, 1),)).region, 0x100)
    assert zones(board.accel) == [("register", 0x100, 1, False)]


def test_a_neighbour_in_the_middle_splits_a_zone_into_its_visible_parts() -> None:
    """As port 0xcf9 cuts the zone of 0xcf8."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.ports.map(Recorder("config", 8, coalesced=((0, 8),)).region, 0xCF8)
    reset = machine.ports.map(Recorder("reset", 1).region, 0xCF9, priority=1)
    assert zones(accel)[-2:] == [
        ("register", 0xCF8, 1, True),
        ("register", 0xCFA, 6, True),
    ]
    kind_of = machine.coalescing.kind_of
    assert kind_of(0xCF8, 4, True) == "straddle"
    assert kind_of(0xCF8, 1, True) == "ring_full"
    assert kind_of(0xCF9, 1, True) == "no_zone"
    assert kind_of(0xCFA, 4, True) == "ring_full"
    assert kind_of(0xCF8, 1, False) == "no_zone"
    machine.ports.unmap(reset)
    assert kind_of(0xCF8, 4, True) == kind_of(0xCF9, 1, True) == "ring_full"


def test_overlapping_ranges_of_a_region_become_one_zone() -> None:
    """Or taking one away would take the other along; those that only touch stay apart."""
    accel = FakeAccelerator()
    region = Recorder("r", 0x40, coalesced=((0x20, 8), (0, 0x10), (8, 0x10), (0x28, 8))).region
    Machine(accel).memory.map(region, 0x1000)
    assert zones(accel) == [
        ("register", 0x1000, 0x18, False),
        ("register", 0x1020, 8, False),
        ("register", 0x1028, 8, False),
    ]


def test_a_device_that_moves_while_draining_hits_what_the_rest_hits_then() -> None:
    """The guest's later writes were meant for the mapping that its earlier one made."""
    board = Board(Queued(MEM, 1, 1), Queued(MEM + 0x10, 1, 2), Queued(MEM + 0x20, 1, 3))
    other = Recorder("other", 0x10, log=board.log)

    def cover(_offset: int, value: int) -> None:
        if value == 1:
            board.machine.memory.map(other.region, MEM + 0x10, priority=1)

    board.mem.on_write = cover
    assert [name for name, _ in board.run()] == ["mem", "other", "mem"]


def many(count: int) -> Recorder:
    """A device with as many coalescible ranges, 16 bytes apart."""
    ranges = tuple((16 * number, 8) for number in range(count))
    return Recorder("many", 16 * count, coalesced=ranges)


def registered(machine: Machine) -> list[tuple[int, int]]:
    return machine.coalescing.zones[False]


def test_ranges_without_room_go_without_a_zone_and_the_user_is_told_once() -> None:
    accel = FakeAccelerator()
    accel.room = 2
    lines: list[str] = []
    machine = Machine(accel, warn=lines.append)
    mapping = machine.memory.map(many(4).region, 0x1000)
    assert registered(machine) == [(0x1000, 8), (0x1010, 8)]
    assert lines == [
        "warning: memory: the kernel has no room for more than 2 coalesced zones: "
        "writes to 0x1020+0x8 and 1 more ranges exit"
    ]
    kind_of = machine.coalescing.kind_of
    assert [kind_of(at, 4, False) for at in (0x1010, 0x1014, 0x1016, 0x1020)] == [
        "ring_full", "ring_full", "straddle", "no_zone",
    ]  # fmt: skip
    accel.log.clear()
    machine.memory.unmap(mapping)
    # Only what the kernel took is given back.
    assert zones(accel) == [("unregister", 0x1000, 8, False), ("unregister", 0x1010, 8, False)]
    machine.memory.map(many(4).region, 0x2000)
    assert registered(machine) == [(0x2000, 8), (0x2010, 8)]
    assert len(lines) == 1


def test_ranges_get_their_zones_when_others_leave_room() -> None:
    accel = FakeAccelerator()
    accel.room = 3
    machine = Machine(accel)
    first = machine.memory.map(many(2).region, 0x1000)
    machine.memory.map(many(2).region, 0x2000)
    assert registered(machine) == [(0x1000, 8), (0x1010, 8), (0x2000, 8)]
    machine.memory.unmap(first)
    assert registered(machine) == [(0x2000, 8), (0x2010, 8)]


def test_a_full_kind_of_zones_leaves_the_other_kind_alone() -> None:
    board = Board()
    board.accel.room = 0
    board.machine.memory.map(many(1).region, 0x1000)
    board.accel.room = 1
    board.machine.ports.map(many(1).region, 0x1000)
    assert board.machine.coalescing.zones[True] == [(PORT, 8), (0x1000, 8)]


def test_a_range_of_4_gib_and_more_becomes_several_zones() -> None:
    """A zone counts its bytes in 32 bits. Accesses do not cross a page, nor then a seam."""
    accel = FakeAccelerator()
    big = 5 << 30
    machine = Machine(accel)
    machine.memory.map(Recorder("big", big, coalesced=((0, big),), memory=False).region, 1 << 40)
    assert [size for _, size in registered(machine)] == [2 << 30, 2 << 30, 1 << 30]
    assert machine.coalescing.kind_of((1 << 40) + big - 8, 8, False) == "ring_full"


def test_a_range_that_ends_with_the_space_gets_no_zone() -> None:
    """KVM compares 64-bit sums: such a zone would hold nothing, and nothing would remove it."""
    accel = FakeAccelerator()
    machine = Machine(accel)
    machine.memory.map(Recorder("top", 16, coalesced=((0, 16),)).region, (1 << 64) - 16)
    assert zones(accel) == []
    assert machine.coalescing.kind_of((1 << 64) - 8, 8, False) == "no_zone"


def test_another_refusal_of_a_zone_stays_what_it_is() -> None:
    class Odd(FakeAccelerator):
        def change_coalesced(self, _r: object, _a: object, port: bool) -> int:
            raise RequestError(errno.EINVAL, f"odd {port}")

    with pytest.raises(RequestError, match="odd"):
        Board(accel=Odd())


# --- without the capability ---


@pytest.mark.parametrize(("mmio", "pio"), [(False, False), (True, False), (False, True)])
def test_only_the_kinds_that_the_kernel_offers_get_zones(mmio: bool, pio: bool) -> None:
    board = Board(accel=FakeAccelerator(mmio=mmio, pio=pio))
    assert board.machine.coalescing.supported == {False: mmio, True: pio}
    assert {entry[3] for entry in zones(board.accel)} == ({False} if mmio else set()) | (
        {True} if pio else set()
    )


def test_without_a_ring_everything_works_by_exits() -> None:
    script = [store(MEM, 1), load(MEM), out(PORT, 2), in_(PORT)]
    board = Board(accel=FakeAccelerator(script, ring=False))
    board.run()
    assert board.accel.completed == [1, 2]
    assert board.machine.coalescing.supported == {False: False, True: False}
    assert zones(board.accel) == []
    assert dict(board.machine.counters.exits_by) == {"no_zone": 1, "load": 1, "pio": 2, "hlt": 1}
    assert board.machine.flush() == 0


def test_coalescing_can_be_turned_off() -> None:
    accel = FakeAccelerator()
    machine = Machine(accel, coalesce=False)
    machine.memory.map(Recorder("r", 0x10, coalesced=((0, 0x10),)).region, 0)
    assert zones(accel) == []
    assert machine.coalescing.supported == {False: False, True: False}
