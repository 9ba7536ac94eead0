"""The order in which queued writes and exits reach the devices."""

from __future__ import annotations

import pytest

from coalesced.hv.errors import GuestError, PeerDied, ProtocolError
from coalesced.hv.outcome import Event
from helpers.vmm_fake import (
    CRASH,
    KICKED,
    Queued,
    Recorder,
    Seen,
    Step,
    in_,
    load,
    out,
    store,
)
from helpers.vmm_recording import ARRIVED, MEM, PORT, QUEUED, Board

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
    """With any number of queued writes, and an exit in either space."""
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
    [failure] = board.machine.counters.failures
    assert failure.startswith(f"memory: write of 1 bytes 0x7 at {MEM + 2:#x} (mem): ")
    assert failure.endswith(": ValueError: seven")
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
    """Earlier writes reach their device first."""
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


def test_a_device_that_asks_for_a_flush_in_a_drain_does_not_lengthen_it() -> None:
    """One pass stays one, however much the guest queues meanwhile."""
    board = Board()

    def again(_offset: int, _value: int) -> None:
        board.machine.flush()
        board.accel.put(Queued(MEM, 1, 7))

    board.mem.on_write = again
    board.accel.put(Queued(MEM, 1, 7))
    assert [board.machine.flush() for _ in range(3)] == [1, 1, 1]


def test_a_device_that_moves_while_draining_hits_what_the_rest_hits_then() -> None:
    """The guest's later writes were meant for the mapping that its earlier one made."""
    board = Board(Queued(MEM, 1, 1), Queued(MEM + 0x10, 1, 2), Queued(MEM + 0x20, 1, 3))
    other = Recorder("other", 0x10, log=board.log)

    def cover(_offset: int, value: int) -> None:
        if value == 1:
            board.machine.memory.map(other.region, MEM + 0x10, priority=1)

    board.mem.on_write = cover
    assert [name for name, _ in board.run()] == ["mem", "other", "mem"]


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
