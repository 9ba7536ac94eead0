"""The emulated kernel against this machine's own: the same entries, the same exits."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from coalesced.hv.abi import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO, NR_IOBUS_DEVS
from coalesced.hv.abi import OP_IN as IN
from coalesced.hv.abi import OP_LOAD as LOAD
from coalesced.hv.abi import OP_OUT as OUT
from coalesced.hv.abi import OP_STORE as STORE
from coalesced.hv.errors import RequestError
from helpers.kvm_sides import (
    RAM,
    KvmSide,
    Operation,
    ProcessSide,
    Seen,
    Zone,
    both,
    compare,
    needs_kvm,
)

pytestmark = needs_kvm

Sides = tuple[ProcessSide, KvmSide]

WINDOW = 0xA0000
PORT = 0x3C0
SLOTS, USABLE = 170, 169
USABLE_BEFORE_6_12 = 85  # entries from a start of up to 84


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with both() as made:
        yield made


@pytest.fixture(scope="module")
def old_full_check(sides: Sides) -> bool:
    """Does this kernel have the full check of those before 6.12? Found by filling a ring."""
    kvm = sides[1]
    kvm.register((WINDOW, 0x1000, False))
    try:
        while kvm.first() >= USABLE_BEFORE_6_12:
            kvm.run([(STORE, 1, WINDOW, 0)])
        return len(kvm.run([(STORE, 1, WINDOW, 0)] * SLOTS).exits[0][0]) != USABLE
    finally:
        kvm.clear()


def same(sides: Sides, zones: list[Zone], ops: list[Operation]) -> Seen:
    """Run a program on both; they must see the same."""
    emulated, real = compare(sides, zones, ops)
    assert emulated == real
    return real


# --- a full ring ---


def test_a_ring_takes_169_from_every_start(sides: Sides, old_full_check: bool) -> None:
    """MMIO and PIO mixed; the next write exits with its own data. What each fill leaves makes the
    next one start a slot earlier, so that 170 of them start everywhere."""
    if old_full_check:
        pytest.skip("this kernel's full check is that of kernels before 6.12")
    zones = [(WINDOW, 0x1000, False), (PORT, 16, True)]
    starts = set()
    for number in range(SLOTS):
        ops = [
            (OUT, 1, PORT + at % 16, at) if (at + number) % 3 == 0 else (STORE, 1, WINDOW + at, at)
            for at in range(USABLE + 1)
        ]
        seen = same(sides, zones, ops)
        entries, full = seen.exits[0]
        assert len(entries) == USABLE
        kind, _, address, value = ops[USABLE]
        reason = KVM_EXIT_IO if kind == OUT else KVM_EXIT_MMIO
        assert full == (reason, address, 1, True, value)
        assert seen.exits[1:] == [([], (KVM_EXIT_HLT, 0, 0, False, 0))]
        starts.add(sides[1].first())
    assert starts == set(range(SLOTS))


def test_rings_that_fill_again_and_again(sides: Sides, old_full_check: bool) -> None:
    """Long runs of stores, which the machine code does in one instruction each."""
    if old_full_check:
        pytest.skip("this kernel's full check is that of kernels before 6.12")
    zones = [(WINDOW, 0x2000, False)]
    same_value = [(STORE, 2, WINDOW + 2 * at, 0xABCD) for at in range(700)]
    any_value = [(STORE, 4, WINDOW + 0x7FE + 4 * at, at * 0x01010101) for at in range(700)]
    repeated = [(STORE, 1, WINDOW + at % 7, at % 7) for at in range(700)]
    seen = same(sides, zones, [*same_value, *any_value, *repeated])
    exits = [exit_ for _, exit_ in seen.exits]
    # One store crosses a page: two entries. Every 170th write exits.
    assert len(exits) == (2100 + 1) // SLOTS + 1
    assert sum(len(entries) for entries, _ in seen.exits) == 2101 - (len(exits) - 1)


# --- zones ---

NEXT = WINDOW + 0x100


@pytest.mark.parametrize("port", [False, True])
def test_what_lies_in_a_zone_is_queued(sides: Sides, port: bool) -> None:
    """Inside, before, behind, over either edge, over both; each size."""
    at, kind = (PORT, OUT) if port else (NEXT, STORE)
    sizes = (1, 2, 4) if port else (1, 2, 4, 8)
    ops = [
        (kind, size, address, 0x8877665544332211 % (1 << 8 * size))
        for size in sizes
        for address in range(at - 8, at + 16)
    ]
    seen = same(sides, [(at, 6, port)], ops)
    inside = [op for op in ops if at <= op[2] and op[2] + op[1] <= at + 6]
    assert sum(len(entries) for entries, _ in seen.exits) == len(inside) > 0


def test_a_zone_of_one_kind_takes_nothing_of_the_other(sides: Sides) -> None:
    ops = [(STORE, 1, 0x3C4, 1), (OUT, 1, 0x3C4, 2), (STORE, 1, 0x5C4, 3), (OUT, 1, 0x5C4, 4)]
    seen = same(sides, [(0x3C4, 1, True), (0x5C4, 1, False)], ops)
    assert [entry for entries, _ in seen.exits for entry in entries] == [
        (0x3C4, 1, 1, 2),
        (0x5C4, 1, 0, 3),
    ]


@pytest.mark.parametrize(
    ("second", "across"),
    [(8, 6), (9, 6), (6, 5)],
    ids=["adjacent", "apart", "overlapping"],
)
def test_an_access_over_two_zones_exits(sides: Sides, second: int, across: int) -> None:
    """Also where they touch, or share less than the access has."""
    zones = [(NEXT, 8, False), (NEXT + second, 8, False)]
    same(sides, zones, [(STORE, n, NEXT + at, at) for n in (1, 2, 4, 8) for at in range(20)])
    seen = same(sides, zones, [(STORE, 4, NEXT + across, 7)])
    assert [entries for entries, _ in seen.exits] == [[], []]


ADDRESSES = [*range(NEXT - 2, NEXT + 0x22)]


@pytest.mark.parametrize(
    "removed",
    [(NEXT, 0x21), (NEXT - 1, 2), (NEXT, 0x20), (NEXT + 4, 2), (NEXT, 0), (NEXT + 0x1F, 1)],
    ids=["larger", "over its start", "itself", "smaller", "empty", "its last byte"],
)
def test_what_unregistering_a_range_takes_away(sides: Sides, removed: tuple[int, int]) -> None:
    """Every zone that contains it, whole; none that does not."""
    ops = [(STORE, 1, address, 1) for address in ADDRESSES]
    results = []
    for side in sides:
        side.register((NEXT, 0x20, False), (NEXT, 0x20, True))
        side.unregister((*removed, False))
        results.append(side.run(ops))
        side.clear()
    emulated, real = results
    assert emulated == real
    contained = removed[0] >= NEXT and sum(removed) <= NEXT + 0x20
    queued = sum(len(entries) for entries, _ in real.exits)
    assert queued == (0 if contained else 0x20)


def test_a_thousand_zones_of_a_kind_and_no_more() -> None:
    """Then ENOSPC, until one goes; the other kind has its own thousand."""
    step = 16
    results = []
    with both() as fresh:
        for side in fresh:
            side.register(*((WINDOW + step * at, 4, False) for at in range(NR_IOBUS_DEVS)))
            for _ in range(2):
                with pytest.raises(RequestError) as refused:
                    side.register((WINDOW - step, 4, False))
                assert refused.value.errno == errno.ENOSPC
            side.register((0x100, 4, True))
            side.unregister((WINDOW + step, 4, False))
            side.register((WINDOW - step, 4, False))
            places = [*range(0, NR_IOBUS_DEVS, 97), NR_IOBUS_DEVS - 1, -1, 1]
            ops = [(STORE, 4, WINDOW + step * at, 7) for at in places]
            results.append(side.run([*ops, (OUT, 1, 0x100, 1)]))
    emulated, real = results
    assert emulated == real
    assert sum(len(entries) for entries, _ in real.exits) == len(places) - 1 + 1


# --- page boundaries ---


@pytest.mark.parametrize("kind", [STORE, LOAD])
@pytest.mark.parametrize(
    "zones",
    [
        [],
        [(WINDOW + 0x1000, 0x1000)],
        [(WINDOW + 0x2000, 0x1000)],
        [(WINDOW + 0x1000, 0x2000)],
        [(WINDOW + 0x1000, 0x1000), (WINDOW + 0x2000, 0x1000)],
    ],
    ids=["no zone", "first page", "second page", "one zone", "two zones"],
)
def test_accesses_over_a_page_boundary(
    sides: Sides, kind: int, zones: list[tuple[int, int]]
) -> None:
    """Two entries, or an entry and an exit, or two exits; each part of a store is tried before
    either exits."""
    edge = WINDOW + 0x2000
    ops = [
        (kind, size, edge - before, 0x8877665544332211 % (1 << 8 * size))
        for size in (2, 4, 8)
        for before in range(1, size)
    ]
    seen = same(sides, [(*zone, False) for zone in zones], ops)
    queued = sum(len(entries) for entries, _ in seen.exits)
    parts = sum(any(a <= p < a + n for a, n in zones) for p in (edge - 1, edge))
    assert queued == (len(ops) * parts if kind == STORE else 0)


def test_accesses_between_ram_and_a_device(sides: Sides) -> None:
    """The part that is RAM needs no exit."""
    ops = [
        (kind, size, edge - before, 0x8877665544332211 % (1 << 8 * size))
        for edge in (RAM, RAM + 0x3000)
        for size in (2, 4, 8)
        for before in range(1, size)
        for kind in (STORE, LOAD)
    ]
    seen = same(sides, [(RAM + 0x3000, 0x1000, False)], ops)
    assert any(seen.ram)


@pytest.mark.parametrize("queued", [USABLE - 1, USABLE])
def test_a_store_over_a_page_boundary_into_a_ring_almost_full(
    sides: Sides, old_full_check: bool, queued: int
) -> None:
    """One part fits, or none: a full ring makes both exit, although the first exit empties it."""
    if old_full_check:
        pytest.skip("this kernel's full check is that of kernels before 6.12")
    ops = [(STORE, 1, WINDOW, at) for at in range(queued)]
    seen = same(sides, [(WINDOW, 0x2000, False)], [*ops, (STORE, 4, WINDOW + 0xFFE, 0x44332211)])
    assert len(seen.exits) == 1 + (1 if queued < USABLE else 2)


# --- any program ---

EDGES = [WINDOW, WINDOW + 0x10, WINDOW + 0x1000, WINDOW + 0x1100, RAM, RAM + 0x1000, RAM + 0x3000]
PORT_EDGES = [PORT, PORT + 8, PORT + 16]
near = st.integers(-9, 9)
values = st.integers(0, (1 << 64) - 1)


@st.composite
def accesses(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from([STORE, STORE, STORE, LOAD, OUT, OUT, IN]))
    port = kind in (IN, OUT)
    size = draw(st.sampled_from((1, 2, 4) if port else (1, 2, 4, 8)))
    address = draw(st.sampled_from(PORT_EDGES if port else EDGES)) + draw(near)
    value = draw(values) % (1 << 8 * size) if kind in (STORE, OUT) else 0
    return kind, size, address, value


@st.composite
def runs(draw: st.DrawFn) -> list[Operation]:
    """Single accesses, or what the assembler turns into loops and string instructions."""
    if draw(st.booleans()):
        return [draw(accesses())]
    if draw(st.booleans()):
        body = draw(st.lists(accesses(), min_size=1, max_size=3))
        return body * draw(st.integers(1, 40))
    size = draw(st.sampled_from((1, 2, 4)))
    start = draw(st.sampled_from(EDGES)) + draw(near)
    given = draw(st.lists(values, min_size=1, max_size=3))
    return [
        (STORE, size, start + at * size, given[at % len(given)] % (1 << 8 * size))
        for at in range(draw(st.integers(14, 40)))
    ]


@st.composite
def ranges(draw: st.DrawFn, port: bool) -> Zone:
    start = draw(st.sampled_from(PORT_EDGES if port else EDGES)) + draw(near)
    return start, draw(st.sampled_from([1, 4, 8, 16, 0x100, 0xFF8, 0x1000])), port


zone_lists = st.lists(st.booleans().flatmap(ranges), max_size=5)
programs = st.lists(runs(), max_size=8).map(lambda parts: [op for part in parts for op in part])


def nested(zones: list[Zone]) -> bool:
    """Whether a zone lies in another one of its kind."""
    return any(
        a[2] == b[2] and a[:2] != b[:2] and a[0] <= b[0] and sum(b[:2]) <= sum(a[:2])
        for a in zones
        for b in zones
    )


@settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(zones=zone_lists, program=programs)
def test_random_programs(
    sides: Sides, old_full_check: bool, zones: list[Zone], program: list[Operation]
) -> None:
    """Under zones that overlap, touch and lie apart."""
    emulated, real = compare(sides, [] if nested(zones) else zones, program)
    if old_full_check:  # where it stops early, nothing else need be the same
        emulated, real = emulated._replace(exits=[]), real._replace(exits=[])
    assert emulated == real


# --- the known difference ---


def outcomes(seen: Seen) -> list[tuple[int, int, int, int, bool]]:
    """(port?, address, size, value, did it exit?) of each write, in order."""
    result = []
    for entries, (reason, address, size, is_write, value) in seen.exits:
        result += [(pio, a, length, data, False) for a, length, pio, data in entries]
        if is_write:
            result.append((int(reason == KVM_EXIT_IO), address, size, value, True))
    return result


@settings(
    max_examples=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    outer=st.tuples(st.integers(0, 8), st.integers(16, 40)),
    inner=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=4),
    outer_last=st.booleans(),
)
def test_nested_zones_differ_only_where_kvms_search_misses_the_outer_one(
    sides: Sides,
    outer: tuple[int, int],
    inner: list[tuple[int, int]],
    outer_last: bool,
) -> None:
    """Writes of a byte everywhere: KVM may make one inside the outer zone exit; nothing else."""
    zones = [(NEXT + start, size, False) for start, size in inner]
    zones.insert(len(zones) if outer_last else 0, (NEXT + outer[0], outer[1], False))
    ops = [(STORE, 1, NEXT + at, at) for at in range(60)]
    emulated, real = compare(sides, zones, ops)
    expected, got = outcomes(emulated), outcomes(real)
    differing = [e for e, g in zip(expected, got, strict=True) if e != g]
    note(f"exits on this kernel alone: {[hex(d[1]) for d in differing]}")
    assert [e[:4] for e in expected] == [g[:4] for g in got]
    assert all(not exited for *_, exited in differing)
    if differing:
        assert nested(zones)
    covering = [[z for z in zones if z[0] <= address < z[0] + z[1]] for _, address, *_ in differing]
    assert all(any(nested([c, *zones]) for c in cover) for cover in covering)


def test_a_nested_zone_that_hides_its_outer_one_is_found(sides: Sides) -> None:
    """The difference is there on this kernel, or it is not: whichever, the emulation queues."""
    zones = [(NEXT, 0x40, False), (NEXT + 0x10, 4, False), (NEXT + 0x20, 4, False)]
    emulated, real = compare(sides, zones, [(STORE, 1, NEXT + at, at) for at in range(0x40)])
    assert all(not exited for *_, exited in outcomes(emulated))
    missed = [address - NEXT for _, address, _, _, exited in outcomes(real) if exited]
    # What lies in an inner zone, or before the first one, no search misses.
    assert not set(missed) & {*range(0x10), *range(0x10, 0x14), *range(0x20, 0x24)}
