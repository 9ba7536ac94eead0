"""Registered zones: containment to the byte, KVM's limits, what the vCPU searches."""

from __future__ import annotations

import bisect
import errno
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.hv.errors import RequestError
from coalesced.hv.zones import Zones
from helpers.hv_oracle import Zone as OracleZone
from helpers.hv_oracle import covers

TOP = 1 << 64


def contains(zone: tuple[int, int], addr: int, length: int) -> bool:
    """KVM's coalesced_mmio_in_range, for the range of no byte, too."""
    end = (addr + length) % TOP
    return end >= addr >= zone[0] and end <= sum(zone) % TOP


def zones_of(*pairs: tuple[int, int]) -> Zones:
    """Zones registered in that order."""
    zones = Zones()
    for addr, size in pairs:
        zones.register(addr, size)
    return zones


def searched(zones: Zones, addr: int, length: int) -> bool:
    """The answer of a binary search over `outermost()`: the last zone that starts at or below."""
    table = zones.outermost()
    at = bisect.bisect_right(table, addr, key=lambda zone: zone[0])
    return at > 0 and addr + length - 1 <= table[at - 1][1]


@pytest.mark.parametrize(
    ("addr", "length", "inside"),
    [
        (0xA0000, 1, True),  # the first byte
        (0xAFFFF, 1, True),  # the last byte
        (0xA0000, 0x10000, True),  # all of it
        (0xAFFFE, 2, True),
        (0xAFFF8, 8, True),
        (0xB0000, 1, False),  # one past
        (0x9FFFF, 1, False),  # one before
        (0x9FFFF, 2, False),  # straddles the start
        (0xAFFFF, 2, False),  # straddles the end
        (0xAFFF9, 8, False),
        (0xA0000, 0x10001, False),
        (0xA0FFF, 2, True),  # a page crossed, inside
        (0, 1, False),
        (TOP - 1, 1, False),
        (TOP - 1, 2, False),  # wraps
    ],
)
def test_a_zone_holds_what_lies_wholly_inside(addr: int, length: int, inside: bool) -> None:
    """To the byte at both ends."""
    zones = zones_of((0xA0000, 0x10000))
    assert zones.covers(addr, length) is inside
    assert searched(zones, addr, length) is inside


def test_a_zone_of_no_bytes_holds_no_access() -> None:
    """It is registered and counted all the same."""
    zones = zones_of((0x1000, 0))
    assert len(zones) == 1
    assert not zones.covers(0x1000, 1)
    assert len(zones.outermost()) == 0


@pytest.mark.parametrize(
    ("addr", "size", "access", "inside"),
    [
        (TOP - 0x1001, 0x1000, TOP - 2, True),  # ends one short of the top: the last such zone
        (TOP - 0x1000, 0x1000, TOP - 2, False),  # its end is 0 in 64 bits: holds nothing
        (TOP - 0x1000, 0x1000, TOP - 0x1000, False),
        (TOP - 0x1000, 0x2000, TOP - 0x1000, False),  # wraps: neither above ..
        (TOP - 0x1000, 0x2000, 0, False),  # .. nor below
    ],
)
def test_a_zone_at_the_end_of_the_space_follows_kvm(
    addr: int, size: int, access: int, inside: bool
) -> None:
    """KVM compares 64-bit sums, so a zone whose end wraps contains nothing."""
    zones = zones_of((addr, size))
    assert zones.covers(access, 1) is inside
    assert searched(zones, access, 1) is inside


def test_two_adjacent_zones_do_not_make_one() -> None:
    """An access over their seam lies in neither."""
    zones = zones_of((0x1000, 0x100), (0x1100, 0x100))
    assert not zones.covers(0x10FF, 2)
    assert not searched(zones, 0x10FF, 2)


def test_an_access_may_lie_in_the_outer_of_nested_zones_only() -> None:
    """The inner zone, registered before or after, hides nothing of the outer one."""
    for order in (((0x1000, 0x1000), (0x1100, 4)), ((0x1100, 4), (0x1000, 0x1000))):
        zones = zones_of(*order)
        assert zones.covers(0x1102, 4)
        assert searched(zones, 0x1102, 4)
        assert zones.outermost() == [(0x1000, 0x1FFF)]


def test_the_1001st_zone_is_refused_with_enospc() -> None:
    """1,000 of a kind, as NR_IOBUS_DEVS says; one fewer makes room for one."""
    zones = zones_of(*((0x1000 * n, 0x10) for n in range(1000)))
    with pytest.raises(RequestError, match="1000 coalesced zones") as refused:
        zones.register(0x900000, 1)
    assert refused.value.errno == errno.ENOSPC
    assert len(zones) == 1000
    assert zones.unregister(0, 1) == 1
    zones.register(0x900000, 1)
    with pytest.raises(RequestError):
        zones.register(0x900000, 1)


def test_the_same_zone_twice_counts_twice_and_goes_at_once() -> None:
    """KVM keeps both; unregistering removes all that contain the range."""
    zones = zones_of((0x1000, 0x10), (0x1000, 0x10))
    assert len(zones) == 2
    assert zones.unregister(0x1000, 0x10) == 2
    assert len(zones) == 0


@pytest.mark.parametrize(
    ("addr", "size", "left"),
    [
        (0x1000, 0x100, {(0x1010, 0x10), (0x5000, 8)}),  # the outer one contains it, not the inner
        (0x1010, 0x10, {(0x5000, 8)}),  # both contain it
        (0x1018, 1, {(0x5000, 8)}),  # one byte is enough
        (0x1018, 0, {(0x5000, 8)}),  # none, too
        (0x0FFF, 2, {(0x1000, 0x100), (0x1010, 0x10), (0x5000, 8)}),  # straddles
        (0x0, 0x10000, {(0x1000, 0x100), (0x1010, 0x10), (0x5000, 8)}),  # 2008 removed these
        (0x9000, 1, {(0x1000, 0x100), (0x1010, 0x10), (0x5000, 8)}),  # nothing there is fine
    ],
)
def test_unregister_removes_the_zones_that_contain_the_range(
    addr: int, size: int, left: set[tuple[int, int]]
) -> None:
    """Containing, not contained: today's rule and not that of 2008."""
    before = [(0x1000, 0x100), (0x1010, 0x10), (0x5000, 8)]
    zones = zones_of(*before)
    assert zones.unregister(addr, size) == len(before) - len(left)
    for zone in before:
        assert zones.covers(zone[0], zone[1]) is any(
            kept[0] <= zone[0] and zone[0] + zone[1] <= kept[0] + kept[1] for kept in left
        )


EDGES = st.one_of(
    st.integers(0, 64),
    st.integers(TOP - 64, TOP - 1),
    st.integers(0x1000 - 8, 0x1000 + 8),
    st.integers(0, TOP - 1),
)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([0x1000, 2**32 - 1]))


@pytest.mark.slow
@settings(max_examples=250)
@given(
    zones=st.lists(st.tuples(EDGES, SIZES), max_size=12),
    accesses=st.lists(st.tuples(EDGES, st.integers(1, 8)), min_size=1, max_size=20),
)
def test_the_search_finds_what_trying_every_zone_finds(
    zones: list[tuple[int, int]], accesses: list[tuple[int, int]]
) -> None:
    """`outermost` and a binary search, `covers`, and the oracle agree on every access."""
    registered = zones_of(*zones)
    table = registered.outermost()
    assert all(first <= last for first, last in table)
    for lower, upper in itertools.pairwise(table):
        assert lower[0] < upper[0]
        assert lower[1] < upper[1]
    near = [(addr + delta, 1) for addr, size in zones for delta in (0, size - 1, size)]
    for addr, length in accesses + [(a % TOP, n) for a, n in near]:
        expected = any(covers(OracleZone(*zone), addr, length) for zone in zones)
        assert registered.covers(addr, length) is expected
        if addr + length <= TOP:  # the processor carries out no access that wraps
            assert searched(registered, addr, length) is expected


@pytest.mark.slow
@settings(max_examples=200)
@given(
    zones=st.lists(st.tuples(EDGES, SIZES), max_size=12),
    removed=st.tuples(EDGES, SIZES),
)
def test_unregistering_leaves_what_does_not_contain_the_range(
    zones: list[tuple[int, int]], removed: tuple[int, int]
) -> None:
    """The count and the rest are those of trying every zone."""
    registered = zones_of(*zones)
    kept = [zone for zone in zones if not contains(zone, *removed)]
    assert registered.unregister(*removed) == len(zones) - len(kept)
    assert registered.outermost() == zones_of(*kept).outermost()
