"""Which region answers an address, and how an access is cut at the edges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace, Mapping
from coalesced.devices.bus.region import Region
from helpers.vmm_fake import Recorder

TOP = 1 << 64


def memory(limit: int = TOP) -> AddressSpace:
    return AddressSpace("memory", limit, 0x00)


def ports() -> AddressSpace:
    return AddressSpace("ports", 0x10000, 0xFF)


# --- edges of one region ---


def test_first_and_last_byte_have_offsets_from_the_region_start() -> None:
    space, device = memory(), Recorder("a", 0x10)
    space.map(device.region, 0x1000)
    space.write(0x1000, 1, 0x11)
    space.write(0x100F, 1, 0x22)
    assert device.seen == [("write", 0, 1, 0x11), ("write", 0xF, 1, 0x22)]
    assert space.read(0x100F, 1) == 0x22


@pytest.mark.parametrize("address", [0xFFF, 0x1010])
def test_one_before_and_one_past_reach_nobody_and_are_counted(address: int) -> None:
    space, device = memory(), Recorder("a", 0x10)
    space.map(device.region, 0x1000)
    space.write(address, 1, 0x11)
    assert space.read(address, 1) == 0
    assert device.seen == []
    assert space.unassigned_accesses == {address: 2}


@pytest.mark.parametrize("size", range(1, 9))
def test_unassigned_memory_reads_as_zeros_and_ports_as_ones(size: int) -> None:
    assert memory().read(0x1000, size) == 0
    assert ports().read(0x100, size) == (1 << 8 * size) - 1


def test_a_handler_may_return_bits_above_the_access() -> None:
    space = memory()
    space.map(Region("wide", 8, lambda _o, _s: (1 << 64) - 1, lambda _o, _s, _v: None), 0)
    assert space.read(0, 2) == 0xFFFF


# --- several regions ---


def test_an_access_across_two_regions_reaches_each_with_its_part() -> None:
    log: list[tuple[str, tuple[str, int, int, int]]] = []
    space = memory()
    left, right = Recorder("left", 0x10, log=log), Recorder("right", 0x10, log=log)
    space.map(left.region, 0x1000)
    space.map(right.region, 0x1010)
    space.write(0x100D, 8, 0x8877665544332211)
    assert log == [
        ("left", ("write", 0xD, 3, 0x332211)),
        ("right", ("write", 0, 5, 0x8877665544)),
    ]
    assert space.read(0x100D, 8) == 0x8877665544332211


def test_an_access_over_a_gap_counts_the_gap_once_and_reads_it_unassigned() -> None:
    space = ports()
    space.map(Recorder("a", 1).region, 0x100)
    space.map(Recorder("b", 1).region, 0x103)
    assert space.read(0x100, 4) == 0x00FFFF00
    assert space.unassigned_accesses == {0x101: 1}


def test_the_higher_priority_hides_the_lower_whatever_came_first() -> None:
    for order in ((0, 1), (1, 0)):
        space, devices = memory(), [Recorder("low", 0x30), Recorder("high", 0x10)]
        for number in order:
            space.map(devices[number].region, (0x1000, 0x1010)[number], priority=number)
        names = [r.mapping.region.name for r in space.flat() if r.mapping]
        assert names == ["low", "high", "low"]
        space.write(0x1020, 1, 1)
        assert devices[0].seen == [("write", 0x20, 1, 1)]  # behind the hole, counted from its base


def test_among_equal_priorities_the_region_mapped_last_answers() -> None:
    space = memory()
    for name in ("first", "second"):
        space.map(Recorder(name, 0x10).region, 0)
    found = space.region_at(0)
    assert found is not None
    assert found.name == "second"


def test_what_a_region_hid_comes_back_when_it_is_unmapped() -> None:
    space, below, above = memory(), Recorder("below", 0x10), Recorder("above", 0x10)
    space.map(below.region, 0)
    space.unmap(space.map(above.region, 8))
    space.write(8, 1, 7)
    assert below.seen == [("write", 8, 1, 7)]
    assert above.seen == []


def test_one_region_may_be_mapped_twice() -> None:
    space, device = memory(), Recorder("alias", 0x10)
    space.map(device.region, 0x1000)
    space.map(device.region, 0x1010)
    space.write(0x100E, 4, 0x44332211)  # not one access: it crosses from one mapping to the other
    assert device.seen == [("write", 0xE, 2, 0x2211), ("write", 0, 2, 0x4433)]


# --- limits ---


def test_the_last_bytes_of_a_64_bit_space_belong_to_a_region() -> None:
    space, device = memory(), Recorder("top", 0x10)
    space.map(device.region, TOP - 0x10)
    space.write(TOP - 8, 8, 0x0102030405060708)
    space.write(TOP - 1, 1, 0xAA)
    assert device.seen == [("write", 8, 8, 0x0102030405060708), ("write", 15, 1, 0xAA)]


def test_an_access_past_the_limit_is_cut_there_and_the_rest_is_unassigned() -> None:
    space, device = ports(), Recorder("top", 0x10)
    space.map(device.region, 0xFFF0)
    space.write(0xFFFE, 4, 0x44332211)
    assert space.read(0xFFFE, 4) == 0xFFFF2211
    assert device.seen == [("write", 0xE, 2, 0x2211), ("read", 0xE, 2, 0x2211)]
    assert space.unassigned_accesses == {0x10000: 2}


@pytest.mark.parametrize(("base", "size"), [(-1, 1), (0x10000, 1), (0xFFFF, 2), (0, 0x10001)])
def test_a_region_that_does_not_fit_below_the_limit_is_refused(base: int, size: int) -> None:
    space = ports()
    with pytest.raises(ValueError, match="does not fit below 0x10000"):
        space.map(Recorder("a", size).region, base)
    assert [r.mapping for r in space.flat()] == [None]


def test_nothing_answers_outside_the_limit() -> None:
    space = ports()
    space.map(Recorder("all", 0x10000).region, 0)
    assert space.region_at(0xFFFF) is not None
    assert space.region_at(0x10000) is None
    assert space.region_at(-1) is None


def test_a_mapping_can_be_taken_away_once() -> None:
    space = memory()
    mapping = space.map(Recorder("a", 1).region, 0)
    space.unmap(mapping)
    with pytest.raises(ValueError, match=r"a at 0x0\.\.0x0 is not mapped"):
        space.unmap(mapping)


@pytest.mark.parametrize("size", [0, -1])
def test_a_region_has_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="expected a size above 0"):
        Region("a", size, lambda _o, _s: 0, lambda _o, _s, _v: None)


@pytest.mark.parametrize("zone", [(-1, 2), (0, 0), (0, 0x11), (0x10, 1)])
def test_a_coalesced_range_lies_inside_its_region(zone: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not lie in its 0x10 bytes"):
        Recorder("a", 0x10, coalesced=(zone,))


# --- telling of changes ---


def test_listeners_hear_before_the_old_goes_and_after_the_new_counts() -> None:
    space, heard = memory(), list[tuple[str, bool]]()

    def tell(when: str) -> None:
        heard.append((when, space.region_at(0) is not None))

    space.on_change(lambda: tell("before"), lambda: tell("after"))
    mapping = space.map(Recorder("a", 1).region, 0)
    space.unmap(mapping)
    assert heard == [("before", False), ("after", True), ("before", True), ("after", False)]


def test_several_regions_are_one_change_and_none_is_mapped_when_one_does_not_fit() -> None:
    space, changes = memory(0x100), list[None]()
    space.on_change(lambda: None, lambda: changes.append(None))
    first, second = Recorder("first", 0x10).region, Recorder("second", 0x10).region
    with pytest.raises(ValueError, match="does not fit"):
        space.map_all([(first, 0), (second, 0xF8)])
    assert (changes, space.region_at(0)) == ([], None)
    assert len(space.map_all([(first, 0), (second, 0x20)])) == 2
    assert len(changes) == 1
    assert (space.region_at(0), space.region_at(0x20)) == (first, second)


def test_changes_within_a_block_are_one_from_its_end_on() -> None:
    space, heard = memory(), list[str]()
    space.on_change(lambda: heard.append("before"), lambda: heard.append("after"))
    old, new = Recorder("old", 1).region, Recorder("new", 1).region
    mapping = space.map(old, 0)
    heard.clear()
    with space.changing():
        assert heard == ["before"]
        space.unmap(mapping)
        with space.changing():
            space.map(new, 0)
        space.map_all([(new, 1), (new, 2)])
        assert (space.region_at(0), space.region_at(1)) == (old, None)
        assert heard == ["before"]
    assert heard == ["before", "after"]
    assert [space.region_at(at) for at in range(4)] == [new, new, new, None]


def test_changes_count_when_the_block_raises_and_a_block_without_any_is_no_change() -> None:
    space, changes = memory(), list[None]()
    space.on_change(lambda: None, lambda: changes.append(None))
    with space.changing():
        pass
    assert changes == []
    region = Recorder("a", 1).region

    def change() -> None:
        with space.changing():
            space.map(region, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert space.region_at(0) is region
    assert len(changes) == 1


# --- against an oracle ---

LIMIT = 64
placed = st.tuples(st.integers(0, LIMIT - 1), st.integers(1, LIMIT), st.integers(-1, 1)).filter(
    lambda m: m[0] + m[1] <= LIMIT
)


def owner(mappings: list[Mapping], address: int) -> Mapping | None:
    """The answer of the rule: highest priority, then mapped last."""
    hits = [m for m in mappings if m.base <= address < m.end]
    return max(hits, key=lambda m: (m.priority, mappings.index(m)), default=None)


@pytest.mark.slow
@given(st.lists(placed, max_size=6), st.data())
def test_flat_ranges_follow_the_rule_for_each_byte(
    regions: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    space = memory(LIMIT)
    mappings = [
        space.map(Recorder(str(number), size).region, base, priority)
        for number, (base, size, priority) in enumerate(regions)
    ]
    gone = data.draw(st.none() | st.sampled_from(mappings)) if mappings else None
    if gone is not None:
        space.unmap(gone)
        mappings.remove(gone)
    flat = list(space.flat())
    assert [r.start for r in flat] == [0, *(r.end for r in flat[:-1])]
    assert flat[-1].end == LIMIT
    assert all(a.mapping is not b.mapping for a, b in pairwise(flat))
    for address in range(LIMIT):
        assert space.find(address).mapping is owner(mappings, address)


@given(st.lists(placed, max_size=12), st.data())
def test_changes_within_a_block_give_what_they_give_one_by_one(
    regions: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    single, together = memory(LIMIT), memory(LIMIT)
    start = data.draw(st.integers(0, len(regions)))
    gone = data.draw(st.sets(st.sampled_from(range(len(regions)))) if regions else st.just(set()))

    def change(space: AddressSpace, chosen: list[tuple[int, int, int]]) -> list[Mapping]:
        return [
            space.map(Recorder(str(place), place[1]).region, place[0], place[2]) for place in chosen
        ]

    def shape(space: AddressSpace) -> list[tuple[int, int, str | None]]:
        return [
            (each.start, each.end, None if each.mapping is None else str(each.mapping))
            for each in space.flat()
        ]

    first = {space: change(space, regions[:start]) for space in (single, together)}
    mappings = [*first[single], *change(single, regions[start:])]
    for number in gone:
        single.unmap(mappings[number])
    changes: list[None] = []
    together.on_change(lambda: None, lambda: changes.append(None))
    with together.changing():
        mappings = [*first[together], *change(together, regions[start:])]
        for number in gone:
            together.unmap(mappings[number])
    assert shape(together) == shape(single)
    assert len(changes) == bool(regions[start:] or gone)


@pytest.mark.slow
@given(
    st.lists(placed, max_size=6),
    st.lists(
        st.tuples(st.integers(0, LIMIT + 2), st.integers(1, 8), st.integers(0, TOP - 1)),
        max_size=20,
    ),
)
def test_writes_land_byte_by_byte_where_reads_find_them(
    regions: list[tuple[int, int, int]], writes: list[tuple[int, int, int]]
) -> None:
    """Every byte of an access belongs to the region that answers its address."""
    space = memory(LIMIT)
    devices = [Recorder(str(number), size) for number, (_, size, _) in enumerate(regions)]
    mappings = [
        space.map(device.region, base, priority)
        for device, (base, _, priority) in zip(devices, regions, strict=True)
    ]
    expected = {}
    for address, size, value in writes:
        space.write(address, size, value & (1 << 8 * size) - 1)
        for number, byte in enumerate(value.to_bytes(8, "little")[:size]):
            hit = owner(mappings, address + number) if address + number < LIMIT else None
            if hit is not None:
                expected[hit.region.name, address + number - hit.base] = byte
    for (name, offset), byte in expected.items():
        assert devices[int(name)].bytes[offset] == byte
    for address, size, _ in writes:
        read = space.read(address, size).to_bytes(size, "little")
        for number, byte in enumerate(read):
            hit = owner(mappings, address + number) if address + number < LIMIT else None
            assert byte == (
                0
                if hit is None
                else expected.get((hit.region.name, address + number - hit.base), 0)
            )
