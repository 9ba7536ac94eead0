"""Where the guest's accesses go: RAM, the ring or an exit, one by one and in bulk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.hv import abi, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import GuestError
from helpers.hv_oracle import Event, Operation, VcpuOracle, Zone
from helpers.hv_pair import (
    POLICIES,
    SMALL_RING,
    Pair,
    Program,
    answer,
    indices,
    one_by_one,
    operations,
    ram,
    table,
)

LOAD, STORE, IN, OUT = abi.OP_LOAD, abi.OP_STORE, abi.OP_IN, abi.OP_OUT


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


@pytest.mark.slow
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
    """Zones that would break the search are refused and change nothing."""
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


def test_without_a_ring_everything_exits() -> None:
    """A kernel without the capability takes zones and uses none."""
    with Pair(ring_size=0) as pair:
        pair.vcpu.set_zones(0, table((0x1000, 0x1000)))
        events = pair.run(lambda vcpu: vcpu.fill(0x1000, 1, 3, 0), answer)
        assert [e.reason for e in events] == [abi.KVM_EXIT_MMIO] * 3
        assert pair.vcpu.coalesced == 0
