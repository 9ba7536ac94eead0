"""The vCPU and its VMM in one process: routing, exits, kicks, interrupts, a wrong peer."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, GuestError, PeerDied, ProtocolError
from coalesced.hv.outcome import Event as Ended
from coalesced.hv.vcpu import Vcpu
from coalesced.hv.zones import Zones
from helpers.hv_oracle import Event, Operation, VcpuOracle, Zone
from helpers.hv_pair import LIMIT, Pair, Program, indices, one_by_one, operations, segment

LOAD, STORE, IN, OUT = abi.OP_LOAD, abi.OP_STORE, abi.OP_IN, abi.OP_OUT
POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
SMALL_RING = abi.KVM_COALESCED_MMIO_RING_HEADER + 5 * abi.KVM_COALESCED_MMIO.itemsize


def answer(pio: int, address: int, size: int) -> int:
    """What the devices of these tests hold: another value at each place and width."""
    return ((address * 0x9E3779B97F4A7C15) ^ (size << 40) ^ pio) % (1 << 64)


def table(*zones: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    """What `set_zones` takes, through the registry of zones."""
    registered = Zones()
    for addr, size in zones:
        registered.register(addr, size)
    return registered.outermost()


def ram(start: int, content: bytes, vcpu: core.Vcpu) -> core.Mapping:
    """Give a vCPU a slot of RAM."""
    part = segment("ram", len(content))
    mapping = core.Mapping([part])
    os.close(part[1])
    mapping.write(0, content)
    vcpu.set_memory(start, mapping)
    return mapping


# --- routing, against the oracle ---

# A few pages, so that zones, RAM and accesses meet; what is near an edge comes up most.
EDGES = [0x0, 0x1000, 0x2000, 0x3000, 0x4000, 0x4010, 0x4100, 0x5000, 0x6000]
PLACES = st.one_of(
    st.builds(lambda edge, delta: max(0, edge + delta), st.sampled_from(EDGES), st.integers(-9, 9)),
    st.integers(0, 0x6000),
    st.integers(2**64 - 40, 2**64 - 9),
)
PORTS = st.one_of(st.integers(0x60, 0x80), st.integers(0xFFF0, 0xFFFC))
VALUES = st.integers(0, 2**64 - 1)
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from([STORE, STORE, LOAD]), st.sampled_from([1, 2, 4, 8]), PLACES, VALUES),
    st.tuples(st.sampled_from([OUT, OUT, IN]), st.sampled_from([1, 2, 4]), PORTS, VALUES),
)
SLOTS = st.sets(st.sampled_from([0x1000, 0x2000, 0x3000, 0x5000]), max_size=3)


def compare(
    pair: Pair,
    memory: Sequence[tuple[int, bytes]],
    zones: tuple[list[Zone], list[Zone]],
    program: list[Operation],
    in_bulk: bool,
) -> None:
    """Run a program on both and compare what devices and guest saw."""
    slots = abi.ring_slots(1) if pair.ring_size == abi.PAGE_SIZE else 5 if pair.ring_size else 0
    oracle = VcpuOracle(memory, *zones, slots, answer)
    expected = oracle.run(program)
    oracle.drain()
    mappings = [ram(start, content, pair.vcpu) for start, content in memory]
    for pio in (0, 1):
        pair.vcpu.set_zones(pio, table(*zones[pio]))
    values: list[int] = []

    def guest(vcpu: core.Vcpu) -> None:
        if in_bulk:
            array = operations(program)
            vcpu.execute(array)
            values.extend(array["value"].tolist())
        else:
            values.extend(one_by_one(vcpu, program))

    assert pair.run(guest, answer) == oracle.events
    assert values == expected
    assert (pair.vcpu.coalesced, pair.vcpu.exits) == (oracle.coalesced, oracle.exits + 1)
    for mapping, (_, content) in zip(mappings, oracle.memory, strict=True):
        assert mapping.read(0, len(content)) == content


@POLICIES
@pytest.mark.parametrize("in_bulk", [False, True], ids=["each", "execute"])
def test_programs_go_where_the_oracle_says(policy: WaitPolicy, in_bulk: bool) -> None:
    """Loads, stores, ins and outs over RAM, zones and neither; a tiny ring is full often."""

    @settings(max_examples=50)
    @given(
        slots=SLOTS,
        mmio=st.lists(st.builds(Zone, PLACES, st.integers(0, 0x1800)), max_size=5),
        pio=st.lists(st.builds(Zone, PORTS, st.integers(0, 12)), max_size=4),
        ring_size=st.sampled_from([0, SMALL_RING, SMALL_RING, abi.PAGE_SIZE]),
        start=st.integers(0, 4),
        publish_every=st.sampled_from([1, 2, 64]),
        program=st.lists(OPERATIONS, max_size=40),
    )
    def check(
        slots: set[int],
        mmio: list[Zone],
        pio: list[Zone],
        ring_size: int,
        start: int,
        publish_every: int,
        program: list[Operation],
    ) -> None:
        memory = [(at, bytes([n + 1]) * 0x1000) for n, at in enumerate(sorted(slots))]
        with Pair(policy, ring_size=ring_size, start=start) as pair:
            pair.vcpu.publish_every = publish_every
            compare(pair, memory, (mmio, pio), program, in_bulk)

    check()


def each_place(kind: int, size: int, places: range) -> Program:
    """Write once at each of the places."""
    return lambda vcpu: vcpu.execute(operations([(kind, size, at, 1) for at in places]))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_write_is_queued_only_where_the_whole_of_it_lies_in_one_zone(size: int) -> None:
    """MMIO at every offset around a zone, and around two that touch; what is not inside exits."""
    for zones in ([(0x1100, 16)], [(0x1100, 8), (0x1108, 8)]):
        places = range(0x1100 - 9, 0x1110 + 9)
        with Pair() as pair:
            pair.vcpu.set_zones(0, table(*zones))
            events = pair.run(each_place(STORE, size, places), answer)
        queued = [any(a <= at and at + size <= a + n for a, n in zones) for at in places]
        assert [(e.address, e.reason == 0) for e in events] == list(
            zip(places, queued, strict=True)
        )


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_out_is_queued_only_where_the_whole_of_it_lies_in_one_zone(size: int) -> None:
    """As MMIO: the first and the last port count."""
    places = range(0x6A, 0x7A)
    with Pair() as pair:
        pair.vcpu.set_zones(1, table((0x70, 8)))
        events = pair.run(each_place(OUT, size, places), answer)
    queued = [at >= 0x70 and at + size <= 0x78 for at in places]
    assert [(e.address, e.reason == 0) for e in events] == list(zip(places, queued, strict=True))


@pytest.mark.parametrize("start", [0, 1, 84, 168, 169])
def test_every_170th_write_into_a_page_of_ring_exits(start: int) -> None:
    """169 entries fit; the 170th write exits itself, behind all of them."""
    with Pair(start=start) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        events = pair.run(lambda vcpu: vcpu.fill(0x1000, 4, 1000, 7), answer)
        assert [e.address for e in events] == [0x1000 + 4 * n for n in range(1000)]
        exits = [n for n, event in enumerate(events) if event.reason == abi.KVM_EXIT_MMIO]
        assert exits == [169, 339, 509, 679, 849]
        assert pair.vcpu.coalesced == 995


@pytest.mark.parametrize(("size", "offset"), [(s, o) for s in (2, 4, 8) for o in range(1, s)])
def test_a_store_over_a_page_boundary_is_two_accesses(size: int, offset: int) -> None:
    """Each part is queued or exits by itself, so that entries of any len occur."""
    value = 0x8877665544332211 % (1 << 8 * size)
    low, high = value % (1 << 8 * offset), value >> 8 * offset
    parts = [(0x2000 - offset, offset, low), (0x2000, size - offset, high)]
    for zones in ([], [(0x1000, 0x1000)], [(0x2000, 0x1000)], [(0x1000, 0x2000)]):
        with Pair() as pair:
            pair.vcpu.set_zones(0, table(*zones))
            events = pair.run(lambda vcpu: vcpu.store(0x2000 - offset, size, value), answer)
        queued = [any(a <= at < a + n for a, n in zones) for at, _, _ in parts]
        assert sorted(events, key=lambda e: e.address) == [
            Event(0 if q else abi.KVM_EXIT_MMIO, 0, at, length, True, piece)
            for q, (at, length, piece) in zip(queued, parts, strict=True)
        ]
        # As KVM: both parts are tried before either exits, and an exit drains the ring first.
        assert [e.address for e in events] == [
            at for _, (at, _, _) in sorted(zip(queued, parts, strict=True), key=lambda p: not p[0])
        ]


def test_a_store_over_a_page_boundary_into_a_full_ring_exits_twice() -> None:
    """Although the first of its exits would have made room."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x2000)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.fill(0x1000, 1, 169, 7)
            vcpu.store(0x1FFE, 4, 0x44332211)

        events = pair.run(guest, answer)
        assert events[169:] == [
            Event(abi.KVM_EXIT_MMIO, 0, 0x1FFE, 2, True, 0x2211),
            Event(abi.KVM_EXIT_MMIO, 0, 0x2000, 2, True, 0x4433),
        ]


def test_a_load_over_a_page_boundary_puts_two_exits_together() -> None:
    """The low bytes come from the first page."""
    with Pair() as pair:
        got: list[int] = []

        def guest(vcpu: core.Vcpu) -> None:
            got.append(vcpu.load(0x1FFD, 8))

        events = pair.run(
            guest, lambda _pio, at, _size: 0x7766554433221100 if at & 1 else (1 << 64) - 1
        )
        assert [(e.address, e.size) for e in events] == [(0x1FFD, 3), (0x2000, 5)]
        assert got == [0xFFFFFFFFFF_221100]


def test_ports_do_not_split_at_a_page_boundary() -> None:
    """A port access is one access wherever it lies."""
    with Pair() as pair:
        events = pair.run(lambda vcpu: vcpu.out(0xFFE, 4, 0x12345678), answer)
        assert events == [Event(abi.KVM_EXIT_IO, 1, 0xFFE, 4, True, 0x12345678)]


def test_zones_of_one_kind_do_not_hold_the_other() -> None:
    """A port number inside an MMIO zone exits, and the other way round."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x60, 8)))
        pair.vcpu.set_zones(1, table((0x70, 8)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.out(0x60, 1, 1)
            vcpu.store(0x70, 1, 2)
            vcpu.store(0x60, 1, 3)
            vcpu.out(0x70, 1, 4)

        assert [(e.reason, e.value) for e in pair.run(guest, answer)] == [
            (abi.KVM_EXIT_IO, 1),
            (abi.KVM_EXIT_MMIO, 2),
            (0, 3),
            (0, 4),
        ]


def test_memory_and_zones_may_change_between_accesses() -> None:
    """RAM covers a zone as long as it is there; without it the zone counts again."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        pair.vcpu.store(0x1000, 1, 1)
        mapping = ram(0x1000, bytes(0x1000), pair.vcpu)
        pair.vcpu.store(0x1000, 1, 2)
        assert mapping.read(0, 1) == b"\x02"
        assert pair.vcpu.load(0x1000, 1) == 2
        pair.vcpu.clear_memory()
        pair.vcpu.store(0x1000, 1, 3)
        assert mapping.read(0, 1) == b"\x02"
        assert [e.value for e in pair.drain()] == [1, 3]


def test_zones_must_be_sorted_with_none_inside_another() -> None:
    """What would break the search is refused and changes nothing."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))
        for pairs in ([(2, 3), (0, 1)], [(0, 9), (2, 3)], [(0, 9), (0, 10)], [(5, 4)]):
            with pytest.raises(ValueError, match="sorted zones, none inside another"):
                pair.vcpu.set_zones(0, np.array(pairs, dtype=np.uint64))
        pair.vcpu.store(0x1000, 1, 1)
        assert len(pair.drain()) == 1


# --- bulk operations and publishing ---


def bulk(name: str) -> Program:
    """A guest that stores 200 bytes into a zone at 0x1000."""
    serial = np.arange(200, dtype=np.uint64)
    programs: dict[str, Program] = {
        "execute": lambda vcpu: vcpu.execute(
            operations([(STORE, 1, 0x1000 + n, 0) for n in range(200)])
        ),
        "store_many": lambda vcpu: vcpu.store_many(serial + 0x1000, 1, serial),
        "fill": lambda vcpu: vcpu.fill(0x1000, 1, 200, 0),
    }
    return programs[name]


@pytest.mark.parametrize("every", [1, 2, 5, 63, 64])
def test_a_bulk_operation_publishes_every_so_many_entries(every: int) -> None:
    """The ring as guest RAM lets the guest see `last` between its own stores."""
    with Pair(ring_size=2 * abi.PAGE_SIZE) as pair:
        pair.vcpu.publish_every = every
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        pair.vcpu.set_memory(0x8000, core.Mapping([pair.segments[1]]))
        ops = operations([(STORE, 1, 0x1000, 0), (LOAD, 4, 0x8004, 0)] * 200)
        pair.vcpu.execute(ops)
        assert ops["value"][1::2].tolist() == [n - n % every for n in range(1, 201)]
        assert len(pair.drain()) == 200


@pytest.mark.parametrize("name", ["execute", "store_many", "fill"])
def test_at_the_end_of_a_bulk_operation_everything_is_published(name: str) -> None:
    """Also what is fewer than `publish_every`."""
    with Pair(ring_size=2 * abi.PAGE_SIZE) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        bulk(name)(pair.vcpu)
        assert indices(pair.mapping, pair.ring_offset) == (0, 200)


def test_publish_every_is_1_to_64() -> None:
    """64 to begin with."""
    with Pair() as pair:
        assert pair.vcpu.publish_every == 64
        for number in (0, 65):
            with pytest.raises(ValueError, match=f"expected 1 to 64 entries, got {number}"):
                pair.vcpu.publish_every = number


@pytest.mark.parametrize("name", ["execute", "store_many", "fill"])
@POLICIES
def test_a_full_ring_in_bulk_loses_nothing(name: str, policy: WaitPolicy) -> None:
    """200 stores through 4 usable slots arrive in order."""
    with Pair(policy, ring_size=SMALL_RING) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        events = pair.run(bulk(name), answer)
        assert [e.address for e in events] == list(range(0x1000, 0x1000 + 200))
        assert sum(e.reason != 0 for e in events) == 40


def test_a_single_store_is_published_at_once() -> None:
    """Without any exit."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))
        pair.vcpu.store(0x1000, 1, 1)
        assert indices(pair.mapping, pair.ring_offset) == (0, 1)


def test_what_was_queued_before_an_error_is_published() -> None:
    """An operation that cannot be carried out does not keep the ones before it back."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))
        with pytest.raises(GuestError, match="operation 2: store of 3 bytes"):
            pair.vcpu.execute(
                operations([(STORE, 1, 0x1000, 1), (STORE, 1, 0x1001, 2), (STORE, 3, 0, 0)])
            )
        assert [e.value for e in pair.drain()] == [1, 2]


# --- the run page, byte for byte ---


def run_page(pair: Pair, size: int, offset: int = abi.KVM_RUN_UNION) -> bytes:
    """Bytes of kvm_run's union."""
    return pair.mapping.read(offset, size)


def reason(pair: Pair) -> int:
    """kvm_run.exit_reason as it lies there."""
    return int(struct.unpack("<I", pair.mapping.read(abi.KVM_RUN_EXIT_REASON, 4))[0])


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_mmio_write_fills_kvm_run(size: int) -> None:
    """phys_addr, data padded with 0, len, is_write."""
    value = 0xF1E2D3C4B5A69788
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.store(0x123456789A0, size, value))
        low = value % (1 << 8 * size)
        assert pair.next_exit() == (abi.KVM_EXIT_MMIO, 0x123456789A0, size, True, low)
        assert reason(pair) == abi.KVM_EXIT_MMIO
        layout = abi.KVM_RUN_MMIO
        data = low.to_bytes(8, "little")
        assert run_page(pair, layout.size) == layout.pack(0x123456789A0, data, size, 1)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_mmio_load_takes_its_result_from_kvm_run(size: int) -> None:
    """Only as many bytes as the access has, whatever lies behind them."""
    with Pair() as pair:
        got: list[int] = []
        pair.start(lambda vcpu: got.append(vcpu.load(0x1000, size)))
        assert pair.next_exit() == (abi.KVM_EXIT_MMIO, 0x1000, size, False, 0)
        layout = abi.KVM_RUN_MMIO
        assert run_page(pair, layout.size) == layout.pack(0x1000, bytes(8), size, 0)
        pair.handle.complete(0x8877665544332211)
        data = (0x8877665544332211 % (1 << 8 * size)).to_bytes(8, "little")
        assert run_page(pair, 8, abi.KVM_RUN_UNION + 8) == data
        pair.mapping.write(abi.KVM_RUN_UNION + 8, b"\x11\x22\x33\x44\x55\x66\x77\x88")
        pair.next_exit()
        assert got == [0x8877665544332211 % (1 << 8 * size)]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_port_write_fills_kvm_run_and_the_pio_page(size: int) -> None:
    """direction, size, port, count 1, and the data in the page behind."""
    value = 0xC4B5A697
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.out(0xCFC, size, value))
        low = value % (1 << 8 * size)
        assert pair.next_exit() == (abi.KVM_EXIT_IO, 0xCFC, size, True, low)
        assert reason(pair) == abi.KVM_EXIT_IO
        layout, page = abi.KVM_RUN_IO, abi.KVM_PIO_PAGE_OFFSET * abi.PAGE_SIZE
        assert run_page(pair, layout.size) == layout.pack(abi.KVM_EXIT_IO_OUT, size, 0xCFC, 1, page)
        assert run_page(pair, 8, page) == low.to_bytes(8, "little")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_port_read_takes_its_result_from_the_pio_page(size: int) -> None:
    """Only as many bytes as the access has."""
    with Pair() as pair:
        got: list[int] = []
        pair.start(lambda vcpu: got.append(vcpu.in_(0x3DA, size)))
        assert pair.next_exit() == (abi.KVM_EXIT_IO, 0x3DA, size, False, 0)
        layout, page = abi.KVM_RUN_IO, abi.KVM_PIO_PAGE_OFFSET * abi.PAGE_SIZE
        assert run_page(pair, layout.size) == layout.pack(abi.KVM_EXIT_IO_IN, size, 0x3DA, 1, page)
        pair.handle.complete(0xFFEEDDCCBBAA9988)
        assert run_page(pair, 8, page) == (0xBBAA9988 % (1 << 8 * size)).to_bytes(8, "little")
        pair.mapping.write(page, b"\x11\x22\x33\x44\x55\x66\x77\x88")
        pair.next_exit()
        assert got == [0x44332211 % (1 << 8 * size)]


def test_halt_and_system_event_carry_their_reasons() -> None:
    """A halt has no payload, a system event its type."""
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.system_event(abi.KVM_SYSTEM_EVENT_CRASH))
        crash = (abi.KVM_EXIT_SYSTEM_EVENT, abi.KVM_SYSTEM_EVENT_CRASH, 0, False, 0)
        assert pair.next_exit() == crash
        assert run_page(pair, 4) == struct.pack("<I", abi.KVM_SYSTEM_EVENT_CRASH)
        assert pair.next_exit() == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
        assert reason(pair) == abi.KVM_EXIT_HLT
        assert pair.vcpu.exits == 1  # the halt; a system event is none


def test_the_words_count_exits_and_entries() -> None:
    """Stopped: both sequences are equal; the first operation's time is told once."""

    def word(pair: Pair, offset: int) -> int:
        return int.from_bytes(pair.mapping.read(offset, 4), "little")

    with Pair() as pair:
        assert pair.handle.first_operation == 0
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 3, 0))
        for n in range(1, 4):
            pair.next_exit()
            assert word(pair, core.EXIT_SEQUENCE) == word(pair, core.RESUME_SEQUENCE) == n
            assert not pair.handle.running
        first = pair.handle.first_operation
        assert first > 0
        pair.next_exit()
        assert pair.handle.first_operation == first


def test_only_a_load_is_completed() -> None:
    """Answering a store, or before any exit, is a mistake of the VMM."""
    with Pair() as pair:
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        pair.start(lambda vcpu: one_by_one(vcpu, [(STORE, 1, 0, 1), (LOAD, 1, 0, 0)]))
        pair.next_exit()
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        pair.next_exit()
        pair.handle.complete(1)
        pair.handle.enter()
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        with pytest.raises(RuntimeError, match="running already"):
            pair.handle.enter()
        pair.this_exit()


# --- what no processor can carry out ---

TOP = 2**64
WRONG: list[tuple[Callable[[core.Vcpu], object], str]] = [
    (lambda v: v.store(0x10, 3, 0), "store of 3 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.store(0x10, 0, 0), "store of 0 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.store(0x10, 16, 0), "store of 16 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.load(0x10, 5), "load of 5 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (
        lambda v: v.load(TOP - 1, 2),
        "load of 2 bytes at 0xffffffffffffffff: expected an address that does not wrap",
    ),
    (
        lambda v: v.store(TOP - 7, 8, 0),
        "store of 8 bytes at 0xfffffffffffffff9: expected an address that does not wrap",
    ),
    (lambda v: v.out(0x60, 8, 0), "out of 8 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.out(0x60, 3, 0), "out of 3 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.in_(0x60, 0), "in of 0 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.in_(0x10000, 1), "in of 1 bytes at 0x10000: expected ports of 0 to 0xffff"),
    (lambda v: v.out(0xFFFD, 4, 0), "out of 4 bytes at 0xfffd: expected ports of 0 to 0xffff"),
    (lambda v: v.out(TOP - 1, 1, 0), "out of 1 bytes at 0xffffffffffffffff: expected ports of 0"),
    (
        lambda v: v.execute(operations([(STORE, 1, 0x10, 0), (4, 1, 0x20, 0)])),
        "operation 1: unknown kind of access of 1 bytes at 0x20: expected load, store, in or out",
    ),
    (
        lambda v: v.execute(operations([(STORE, 1, 0x10, 0), (LOAD, 3, 0x20, 0)])),
        "operation 1: load of 3 bytes at 0x20: expected a size of 1, 2, 4 or 8",
    ),
    (
        lambda v: v.store_many(np.array([0x10, TOP - 1], np.uint64), 2, np.zeros(2, np.uint64)),
        "operation 1: store of 2 bytes at 0xffffffffffffffff: expected an address that does not",
    ),
    (lambda v: v.fill(0x10, 3, 1, 0), "operation 0: store of 3 bytes at 0x10: expected a size of"),
    (
        lambda v: v.read_memory(0x1000, 1),
        "read of 1 bytes at 0x1000: expected guest RAM",
    ),
    (
        lambda v: v.write_memory(0x1000, b"x"),
        "write of 1 bytes at 0x1000: expected guest RAM",
    ),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_no_processor_can_do_is_a_guest_error(
    wrong: Callable[[core.Vcpu], object], said: str
) -> None:
    """The text names the access, its place and what was expected; the vCPU goes on."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x10, 0x10)))
        with pytest.raises(GuestError) as raised:
            wrong(pair.vcpu)
        assert str(raised.value).startswith(said)
        pair.drain()
        pair.vcpu.store(0x10, 1, 1)
        assert len(pair.drain()) == 1


def test_a_fill_does_not_wrap_to_address_0() -> None:
    """The store behind the last address of the space is an error and not one at 0."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        ram(TOP - 0x1000, bytes(0x1000), pair.vcpu)
        with pytest.raises(GuestError, match="wrap"):
            pair.vcpu.fill(TOP - 2, 1, 3, 0x55)
        assert pair.drain() == []


def test_a_size_past_32_bits_is_no_small_one() -> None:
    """Sizes are not cut to the width of a C type on their way."""
    one = np.zeros(1, np.uint64)
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        calls: list[Callable[[], None]] = [
            lambda: pair.vcpu.store(0, 2**32 + 1, 0),
            lambda: pair.vcpu.fill(0, 2**32 + 1, 1, 0),
            lambda: pair.vcpu.store_many(one, 2**32 + 1, one),
        ]
        for wrong in calls:
            with pytest.raises((GuestError, OverflowError)):
                wrong()
        assert pair.drain() == []


def test_arguments_of_the_wrong_type_or_range_are_python_errors() -> None:
    """TypeError, OverflowError and ValueError, as for any Python function."""
    with Pair() as pair:
        vcpu = pair.vcpu
        one, two = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
        for call, error in (
            (lambda: vcpu.store("a", 1, 1), TypeError),  # type: ignore[arg-type]
            (lambda: vcpu.store(0, 1, 1.5), TypeError),  # type: ignore[arg-type]
            (lambda: vcpu.store(0, 1), TypeError),  # type: ignore[call-arg]
            (lambda: vcpu.load(-1, 1), OverflowError),
            (lambda: vcpu.load(TOP, 1), OverflowError),
            (lambda: vcpu.store_many(one, 1, two), ValueError),
            (lambda: vcpu.execute(two), ValueError),
            (lambda: vcpu.execute(operations([(0, 1, 0, 0)] * 4)[::2]), ValueError),
            (lambda: vcpu.execute(bytes(24)), (BufferError, ValueError)),  # type: ignore[arg-type]
            (lambda: vcpu.read_memory(0, -1), ValueError),
            (lambda: vcpu.wait_interrupt(1, -1.0), ValueError),
            (lambda: vcpu.wait_interrupt(1, float("nan")), ValueError),
            (lambda: Vcpu(vcpu).execute(two), ValueError),  # type: ignore[arg-type]
        ):
            with pytest.raises(error):
                call()


def test_values_are_cut_to_the_access() -> None:
    """Of what is written the low bytes count, also of what is below 0 or past 64 bits."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        pair.vcpu.store(0, 2, -2)
        pair.vcpu.store(0, 1, 0x1FF)
        pair.vcpu.store(0, 8, (1 << 70) + 5)
        assert [e.value for e in pair.drain()] == [0xFFFE, 0xFF, 5]


def test_what_guests_call_reaches_the_bus_in_every_width() -> None:
    """Each method of `hv.vcpu.Vcpu` is the access that its name says."""
    seen: list[int] = []

    def guest(bus: core.Vcpu) -> None:
        vcpu = Vcpu(bus)
        vcpu.store8(1, 0x11)
        vcpu.store16(2, 0x2222)
        vcpu.store32(4, 0x44444444)
        vcpu.store64(8, 0x8888888888888888)
        vcpu.out8(1, 0x11)
        vcpu.out16(2, 0x2222)
        vcpu.out32(4, 0x44444444)
        seen.extend([vcpu.load8(0x10), vcpu.load16(0x20), vcpu.load32(0x40), vcpu.load64(0x80)])
        seen.extend([vcpu.in8(0x10), vcpu.in16(0x20), vcpu.in32(0x40)])
        vcpu.fill(0x100, 2, 0x3333, 4)
        vcpu.store_many([0x200, 0x300], 0x77)
        vcpu.execute(operations([(STORE, 2, 0x400, 9)]))
        with pytest.raises(ValueError, match=r"array of coalesced\.hv\.abi\.OP"):
            vcpu.execute(np.zeros(3, np.uint64))

    with Pair() as pair:
        events = pair.run(guest, answer)
        io, mmio = abi.KVM_EXIT_IO, abi.KVM_EXIT_MMIO
        assert [(e.reason, e.address, e.size) for e in events] == [
            *((mmio, n, n) for n in (1, 2, 4, 8)),
            *((io, n, n) for n in (1, 2, 4)),
            *((mmio, 0x10 * n, n) for n in (1, 2, 4, 8)),
            *((io, 0x10 * n, n) for n in (1, 2, 4)),
            *((mmio, a, 4) for a in (0x100, 0x104)),
            *((mmio, a, 1) for a in (0x200, 0x300)),
            (mmio, 0x400, 2),
        ]
        assert seen == [answer(0, 0x10 * n, n) % 256**n for n in (1, 2, 4, 8)] + [
            answer(1, 0x10 * n, n) % 256**n for n in (1, 2, 4)
        ]


# --- guest RAM ---


def test_memory_is_copied_over_adjoining_slots() -> None:
    """And not past the last of them; what fits is not written either way by halves unseen."""
    with Pair() as pair:
        low, high = (ram(at, bytes(0x1000), pair.vcpu) for at in (0x1000, 0x2000))
        pair.vcpu.write_memory(0x1FFE, b"abcd")
        assert (low.read(0xFFE, 2), high.read(0, 2)) == (b"ab", b"cd")
        assert pair.vcpu.read_memory(0x1FFE, 4) == bytearray(b"abcd")
        assert pair.vcpu.load(0x1FFE, 4) == int.from_bytes(b"abcd", "little")
        assert pair.vcpu.read_memory(0x5000, 0) == bytearray()
        with pytest.raises(GuestError, match="at 0x3000: expected guest RAM"):
            pair.vcpu.read_memory(0x2FFF, 2)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ram_needs_no_alignment(size: int) -> None:
    """Every offset of a cache line and over page boundaries."""
    value = 0x8877665544332211 % 256**size
    with Pair() as pair:
        mapping = ram(0x1000, bytes(0x2000), pair.vcpu)
        for at in [*range(64), *range(0xFF8, 0x1001), 0x2000 - size]:
            mapping.write(0, bytes(0x2000))
            pair.vcpu.store(0x1000 + at, size, value)
            assert mapping.read(at, size) == value.to_bytes(size, "little")
            assert sum(mapping.read(0, 0x2000)) == sum(value.to_bytes(8, "little"))
            assert pair.vcpu.load(0x1000 + at, size) == value


def test_there_are_at_most_32_memory_slots() -> None:
    """The 33rd is refused."""
    with Pair() as pair:
        for n in range(32):
            ram(0x1000 * n, bytes(0x1000), pair.vcpu)
        with pytest.raises(ValueError, match="at most 32 memory slots"):
            ram(0x100000, bytes(0x1000), pair.vcpu)


# --- kicks, interrupts, requests ---


@POLICIES
def test_a_kick_makes_a_running_guest_exit(policy: WaitPolicy) -> None:
    """With KVM_EXIT_INTR before its next operation; entering again clears the kick."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        going = threading.Event()
        stop = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            memory_only = 0
            while not stop.is_set():
                vcpu.load(0x9000, 1)
                memory_only += 1
                going.set()

        ram(0x9000, bytes(0x1000), pair.vcpu)
        pair.start(guest)
        for _ in range(20):
            pair.handle.enter()
            assert going.wait(LIMIT)
            going.clear()
            pair.handle.kick()
            assert pair.this_exit() == (abi.KVM_EXIT_INTR, 0, 0, False, 0)
        stop.set()
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert pair.vcpu.exits == 1  # a kick is none


def test_a_kick_publishes_what_was_queued() -> None:
    """In the middle of a bulk operation, too."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.execute(
                operations([(STORE, 1, 0x1000, n) for n in range(10)] + [(LOAD, 1, 0x5000, 0)])
            )

        pair.start(guest)
        assert pair.next_exit()[1] == 0x5000
        assert len(pair.drain()) == 10
        pair.handle.complete(0)
        pair.handle.kick()
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT  # entering cleared it


def test_a_kick_of_a_stopped_guest_is_cleared_by_entering() -> None:
    """As KVM's immediate_exit would have to be."""
    with Pair() as pair:
        pair.handle.kick()
        assert pair.mapping.read(abi.KVM_RUN_IMMEDIATE_EXIT, 1) == b"\x01"
        pair.start(lambda vcpu: vcpu.store(0x1000, 1, 1))
        assert pair.next_exit()[0] == abi.KVM_EXIT_MMIO
        assert pair.mapping.read(abi.KVM_RUN_IMMEDIATE_EXIT, 1) == b"\x00"


@POLICIES
def test_waiting_for_an_interrupt_ends_with_its_line(policy: WaitPolicy) -> None:
    """Only lines of the mask end the wait, and it tells which of them are high."""
    with Pair(policy) as pair:
        raised: list[int] = []

        def guest(vcpu: core.Vcpu) -> None:
            raised.append(vcpu.wait_interrupt(0b1010, None))
            vcpu.store(0x5000, 1, 1)
            raised.append(vcpu.wait_interrupt(1 << 63, None))
            raised.append(vcpu.wait_interrupt(0b0110, 0))

        pair.start(guest)
        pair.handle.enter()
        pair.handle.set_irq(2, True)
        assert pair.handle.wait(0, False) == Ended.TIMED_OUT
        pair.handle.set_irq(3, True)
        assert pair.this_exit()[1] == 0x5000
        pair.handle.set_irq(3, False)
        pair.handle.set_irq(63, True)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert raised == [0b1000, 1 << 63, 0b0100]


@POLICIES
def test_waiting_for_an_interrupt_ends_after_its_timeout(policy: WaitPolicy) -> None:
    """With 0, also at once for a timeout of 0, and without any exit."""
    with Pair(policy) as pair:
        assert pair.vcpu.wait_interrupt(1, 0) == 0
        assert pair.vcpu.wait_interrupt(1, 0.002) == 0
        pair.handle.set_irq(0, True)
        assert pair.vcpu.wait_interrupt(3, None) == 1
        assert pair.vcpu.exits == 0


def test_waiting_for_an_interrupt_publishes_first() -> None:
    """What the guest waits for may be the answer to what it queued."""
    with Pair(WaitPolicy.POLL) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x1000, 1, 1)
            vcpu.wait_interrupt(1, None)

        pair.start(guest)
        pair.handle.enter()
        assert pair.handle.wait(LIMIT, True) == Ended.RING_FILLED
        assert [e.value for e in pair.drain()] == [1]
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


@POLICIES
def test_a_kick_interrupts_a_halted_guest(policy: WaitPolicy) -> None:
    """It exits with KVM_EXIT_INTR, and goes on waiting when it is entered again."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.wait_interrupt(1, None))
        pair.handle.enter()
        for _ in range(5):
            pair.handle.kick()
            assert pair.this_exit()[0] == abi.KVM_EXIT_INTR
            pair.handle.enter()
        pair.handle.set_irq(0, True)
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_interrupt_lines_are_0_to_63() -> None:
    """The message names the limits."""
    with Pair() as pair, pytest.raises(ValueError, match="line of 0 to 63, got 64"):
        pair.handle.set_irq(64, True)


@POLICIES
def test_requests_are_served_while_the_guest_is_stopped(policy: WaitPolicy) -> None:
    """Before the first entry, during an exit, and in the guest's thread; each exactly once."""
    served: list[int] = []
    done = threading.Semaphore(0)

    def serve() -> None:
        served.append(threading.get_ident())
        done.release()

    with Pair(policy, serve=serve) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 3, 0))
        pair.handle.request()
        assert done.acquire(timeout=LIMIT)
        for _ in range(3):
            pair.next_exit()
            pair.handle.request()
            assert done.acquire(timeout=LIMIT)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT
        assert len(served) == 4
        assert set(served) != {threading.get_ident()}


def test_an_error_while_serving_ends_the_guest() -> None:
    """What the requests' handler raises comes out of the guest's operation."""

    def serve() -> None:
        raise CoalescedError("no good")

    with Pair(serve=serve) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.handle.request()
        assert str(pair.join()) == "no good"
        with pytest.raises(PeerDied, match="the guest process ended"):
            pair.next_exit()


def test_a_vcpu_runs_in_one_thread_at_a_time() -> None:
    """A second thread is refused while the first one waits for an answer."""
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        with pytest.raises(RuntimeError, match="in an access already, in another thread"):
            pair.vcpu.store(0x5000, 1, 0)
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT


# --- waiting ---


@POLICIES
def test_a_wait_ends_by_its_timeout_while_the_guest_runs_on(policy: WaitPolicy) -> None:
    """Also one of 0 seconds; entries are told of only to who watches the ring."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 8)))
        go = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x1000, 1, 1)
            go.wait(LIMIT)

        pair.start(guest)
        pair.handle.enter()
        # Nobody is woken for an entry: who sleeps finds it at the end of the timeout.
        within = LIMIT if policy is WaitPolicy.POLL else 0.005
        tries = 1 if policy is WaitPolicy.POLL else 1000
        assert any(pair.handle.wait(within, True) == Ended.RING_FILLED for _ in range(tries))
        assert pair.handle.wait(0, True) == Ended.RING_FILLED
        assert pair.handle.wait(0.002, False) == Ended.TIMED_OUT
        assert len(pair.drain()) == 1
        assert pair.handle.wait(0, True) == Ended.TIMED_OUT
        assert pair.handle.running
        go.set()
        assert pair.this_exit()[0] == abi.KVM_EXIT_HLT


def test_blocking_signals_every_exit_and_polling_none() -> None:
    """Bytes on the pipe: one each way per round trip, or never."""
    for policy, each in ((WaitPolicy.BLOCK, 1), (WaitPolicy.POLL, 0)):
        with Pair(policy) as pair:
            pair.run(lambda vcpu: vcpu.fill(0x5000, 1, 50, 0), answer)
            assert pair.vcpu.signals == 51 * each
            assert pair.handle.signals == 51 * each


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_readable_descriptor_ends_the_wait_for_an_exit(policy: WaitPolicy) -> None:
    """Where it is watched; the exit that comes later is not lost."""
    read_end, write_end = os.pipe()
    with Pair(policy) as pair:
        go = threading.Event()

        def guest(vcpu: core.Vcpu) -> None:
            go.wait(LIMIT)
            vcpu.store(0x5000, 1, 0)

        pair.start(guest)
        pair.handle.watch(read_end)
        pair.handle.enter()
        assert pair.handle.wait(0.001, core.WATCH_DESCRIPTOR) == Ended.TIMED_OUT
        threading.Timer(0.01, os.write, (write_end, b"frame")).start()
        assert pair.handle.wait(LIMIT, core.WATCH_DESCRIPTOR) == Ended.READABLE
        assert pair.handle.wait(0.001, 0) == Ended.TIMED_OUT
        assert pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR) is Ended.READABLE
        os.read(read_end, 10)
        go.set()
        got = pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR)
        assert isinstance(got, tuple)
        assert got[1] == 0x5000
        pair.handle.watch(-1)
        assert pair.handle.run(LIMIT, core.WATCH_DESCRIPTOR) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_readable_descriptor_is_told_although_every_exit_is_there_already(
    policy: WaitPolicy,
) -> None:
    """A guest that polls a register must not keep frames out."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"frame")
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 500, 0))
        pair.handle.watch(read_end)
        told = 0
        for exits in range(1, 501):
            pair.handle.enter()
            while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") < exits:
                os.sched_yield()
            while pair.handle.wait(LIMIT, core.WATCH_DESCRIPTOR) == Ended.READABLE:
                told += 1
        assert 0 < told <= 500, "an exit comes between two of them"
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_moment_that_is_due_is_told_between_exits(policy: WaitPolicy) -> None:
    """Although every exit is there already, and once for every exit at most."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 20, 0))
        due = time.monotonic()
        for exits in range(1, 21):
            pair.handle.enter()
            while int.from_bytes(pair.mapping.read(core.EXIT_SEQUENCE, 4), "little") < exits:
                os.sched_yield()
            assert pair.handle.wait(None, 0, due) == Ended.TIMED_OUT
            assert pair.handle.wait(None, 0, due) == Ended.EXITED
        later = time.monotonic() + LIMIT
        assert pair.handle.run(None, 0, later) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)


@pytest.mark.parametrize("policy", list(WaitPolicy))
def test_a_moment_ends_a_wait_as_a_timeout_does(policy: WaitPolicy) -> None:
    with Pair(policy) as pair:
        go = threading.Event()
        pair.start(lambda _vcpu: go.wait(LIMIT))
        pair.handle.enter()
        for timeout, moment in ((None, 0.01), (LIMIT, 0.01), (0.01, LIMIT), (None, -1e9)):
            assert pair.handle.wait(timeout, 0, time.monotonic() + moment) == Ended.TIMED_OUT
        for wrong, error in ((float("nan"), ValueError), ("soon", TypeError)):
            with pytest.raises(error):
                pair.handle.wait(None, 0, wrong)  # type: ignore[arg-type]
        go.set()


def test_stray_bytes_on_either_pipe_do_no_harm() -> None:
    """A byte only wakes; the words carry the news."""
    with Pair(WaitPolicy.BLOCK) as pair:
        os.write(pair.resume_write, b"x" * 1000)
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 20, 0))
        for n in range(20):
            assert pair.next_exit()[1] == 0x5000 + n
            os.write(pair.resume_write, b"xyz")
        assert pair.next_exit()[0] == abi.KVM_EXIT_HLT


# --- a peer that is gone or wrong ---


@POLICIES
def test_the_guest_learns_of_the_end_of_its_vmm(policy: WaitPolicy) -> None:
    """In the middle of an exit: PeerDied, soon."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
    assert isinstance(pair.guest_error, PeerDied)
    assert "the VMM process ended" in str(pair.guest_error)


@POLICIES
def test_the_vmm_learns_of_the_end_of_the_guest_and_gets_what_was_published(
    policy: WaitPolicy,
) -> None:
    """An exit that was made before is still handled, then PeerDied comes; the ring is whole."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x5000, 1, 0)
            vcpu.fill(0x1000, 1, 100, 0)
            raise KeyError("the end")

        pair.start(guest)
        assert pair.next_exit()[1] == 0x5000
        with pytest.raises(PeerDied, match="the guest process ended"):
            pair.next_exit()
        assert isinstance(pair.join(), KeyError)
        assert [e.address for e in pair.drain()] == list(range(0x1000, 0x1064))


@pytest.mark.parametrize("step", [-1, 1, 2, 1 << 31])
def test_a_wrong_resume_sequence_is_reported(step: int) -> None:
    """The guest names the value and the one expected."""
    with Pair(WaitPolicy.BLOCK) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        wrong = (2 + step) % (1 << 32)
        pair.mapping.write(core.RESUME_SEQUENCE, wrong.to_bytes(4, "little"))
        os.write(pair.resume_write, b"x")
        if wrong == 1:  # what stood there before: no news at all
            pair.mapping.write(core.RESUME_SEQUENCE, bytes(4))
            wrong = 0
            os.write(pair.resume_write, b"x")
        error = pair.join()
        assert isinstance(error, ProtocolError)
        assert str(error) == f"run page: resume sequence is {wrong}, expected 2"


@pytest.mark.parametrize("wrong", [0, 3, 1 << 31, (1 << 32) - 1])
def test_a_wrong_exit_sequence_is_reported(wrong: int) -> None:
    """The VMM names the value and the one expected."""
    with Pair(WaitPolicy.BLOCK) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.mapping.write(core.EXIT_SEQUENCE, wrong.to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match=f"exit sequence is {wrong}, expected 1"):
            pair.handle.wait(LIMIT, False)


def test_an_exit_of_a_guest_that_was_not_entered_is_reported() -> None:
    """Nothing can have exited before the first entry."""
    with Pair() as pair:
        pair.mapping.write(core.EXIT_SEQUENCE, (1).to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match="exit sequence is 1, expected 0"):
            pair.handle.wait(LIMIT, False)


@POLICIES
@pytest.mark.parametrize("word", [core.RESUME_SEQUENCE, core.IRQ_LINES, core.REQUEST_SEQUENCE])
def test_a_word_of_the_vmm_that_another_process_overwrites(policy: WaitPolicy, word: int) -> None:
    """What it told may be lost: the VMM's wait says so, and does not wait for ever."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.wait_interrupt(1, None))
        pair.handle.set_irq(7, True)
        pair.handle.request()
        pair.handle.enter()
        pair.mapping.write(word, bytes(1))
        with pytest.raises(ProtocolError, match="a word of the VMM's was overwritten"):
            pair.handle.wait(LIMIT, False)


def test_a_kick_that_another_process_takes_back() -> None:
    """The guest would run on, and the VMM wait for it to stop."""
    with Pair(WaitPolicy.POLL) as pair:
        pair.handle.enter()  # and nobody there to see the kick
        pair.handle.kick()
        pair.mapping.write(abi.KVM_RUN_IMMEDIATE_EXIT, bytes(1))
        with pytest.raises(ProtocolError, match="a word of the VMM's was overwritten"):
            pair.handle.wait(LIMIT, False)


@POLICIES
def test_a_word_of_the_guest_that_another_process_overwrites(policy: WaitPolicy) -> None:
    """The same on the other side: nobody would answer an exit that is not told."""
    with Pair(policy) as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        pair.mapping.write(core.EXIT_SEQUENCE, bytes(4))
        error = pair.join()
        assert isinstance(error, ProtocolError)
        assert str(error) == "run page: the exit sequence was overwritten"


MMIO, IO = abi.KVM_RUN_MMIO, abi.KVM_RUN_IO


@pytest.mark.parametrize(
    ("number", "union", "said"),
    [
        (0, b"", "exit_reason is 0, expected 2, 5, 6, 10 or 24"),
        (7, b"", "exit_reason is 7, expected"),
        (2**32 - 1, b"", "exit_reason is 4294967295, expected"),
        (6, MMIO.pack(0, bytes(8), 0, 0), "mmio.len is 0, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 9, 0), "mmio.len is 9, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 2**32 - 1, 0), "mmio.len is 4294967295, expected 1 to 8"),
        (6, MMIO.pack(0, bytes(8), 4, 2), "mmio.is_write is 2, expected 0 or 1"),
        (6, MMIO.pack(2**64 - 1, bytes(8), 2, 1), "mmio.phys_addr is 18446744073709551615"),
        (2, IO.pack(0, 3, 0, 1, 4096), "io.size is 3, expected 1, 2 or 4"),
        (2, IO.pack(0, 0, 0, 1, 4096), "io.size is 0, expected 1, 2 or 4"),
        (2, IO.pack(0, 8, 0, 1, 4096), "io.size is 8, expected 1, 2 or 4"),
        (2, IO.pack(2, 1, 0, 1, 4096), "io.direction is 2, expected 0 or 1"),
        (2, IO.pack(1, 4, 0xFFFD, 1, 4096), "io.port is 65533, expected a port whose last byte"),
        (2, IO.pack(1, 1, 0, 2, 4096), "io.count is 2, expected 1"),
        (2, IO.pack(1, 1, 0, 0, 4096), "io.count is 0, expected 1"),
        (2, IO.pack(1, 1, 0, 1, 8192), "io.data_offset is 8192, expected 4096"),
        (2, IO.pack(1, 1, 0, 1, 2**63), "io.data_offset is 9223372036854775808, expected 4096"),
    ],
)
def test_an_exit_that_breaks_the_layout_is_named(number: int, union: bytes, said: str) -> None:
    """Field and value; and there is nothing to complete."""
    with Pair() as pair:
        pair.mapping.write(abi.KVM_RUN_EXIT_REASON, number.to_bytes(4, "little"))
        pair.mapping.write(abi.KVM_RUN_UNION, union)
        with pytest.raises(ProtocolError) as raised:
            pair.handle.exit()
        assert said in str(raised.value)
        with pytest.raises(RuntimeError, match="no load"):
            pair.handle.complete(0)


@pytest.mark.parametrize("first", [5, 77, 2**32 - 1])
def test_a_consumer_index_that_is_no_slot_stops_the_guest(first: int) -> None:
    """The producer looks when the ring seems full, and touches nothing outside."""
    with Pair(ring_size=SMALL_RING) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        pair.mapping.write(pair.ring_offset, first.to_bytes(4, "little"))
        with pytest.raises(ProtocolError, match=f"ring: index first is {first}"):
            pair.vcpu.fill(0x1000, 1, 5, 0)


def test_without_a_ring_everything_exits() -> None:
    """A kernel without the capability takes zones and uses none."""
    with Pair(ring_size=0) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        events = pair.run(lambda vcpu: vcpu.fill(0x1000, 1, 3, 0), answer)
        assert [e.reason for e in events] == [abi.KVM_EXIT_MMIO] * 3
        assert pair.vcpu.coalesced == 0
