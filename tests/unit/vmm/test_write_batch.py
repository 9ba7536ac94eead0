"""A batch does what the same writes do one by one, however a region takes runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import AddressSpace, Mapping
from coalesced.devices.bus.region import U32, U64, Region
from coalesced.vmm.access import Accesses
from coalesced.vmm.counters import Counters
from coalesced.vmm.exits import SHORTEST_RUN

Write = tuple[int, int, int]  # address, size, value
Style = Literal["single", "all", "short", "zero"]

RAISES = 0xE0  # a write whose low byte is this fails
REMAPS = 0xD0  # one whose low byte is this moves an overlay


class Chip:
    """A device that writes down its accesses and takes runs in one of several ways."""

    def __init__(self, world: World, name: str, size: int, style: Style) -> None:
        self.world = world
        self.name = name
        self.style = style
        self.calls = 0
        run = None if style == "single" else self.write_run
        self.region = Region(name, size, lambda _o, _s: 0, self.write, run)

    def write(self, offset: int, size: int, value: int) -> None:
        assert offset >= 0
        assert offset + size <= self.region.size
        if value & 0xFF == RAISES:
            raise ArithmeticError(f"{self.name} {offset} {size} {value}")
        self.world.log.append((self.name, offset, size, value))
        if value & 0xFF == REMAPS:
            self.world.move_overlay()

    def write_run(self, offsets: U64, sizes: U32, values: U64) -> int:
        """As `Region` asks: stops behind what remaps and before what would raise."""
        self.calls += 1
        most = {"all": len(offsets), "short": 3, "zero": 0}[self.style]
        taken = 0
        for entry in zip(offsets.tolist(), sizes.tolist(), values.tolist(), strict=True):
            if taken == most or (taken and entry[2] & 0xFF == RAISES):
                return taken
            self.write(*entry)
            taken += 1
            if entry[2] & 0xFF == REMAPS:
                return taken
        return taken


class Batches(Accesses):
    """Carries out batches of writes to memory; failures are kept."""

    def __init__(self, memory: AddressSpace) -> None:
        super().__init__(memory, AddressSpace("ports", 0x10000, 0xFF), Counters())
        self.failures: list[tuple[int, int, int | None, str]] = []

    def failed(
        self, space: AddressSpace, address: int, size: int, value: int | None, error: BaseException
    ) -> None:
        assert space is self.memory
        self.failures.append((address, size, value, str(error)))

    def batch(self, writes: Sequence[Write]) -> None:
        table = np.array(writes, dtype=[("a", "u8"), ("s", "u4"), ("v", "u8")])
        self.write_arrays(table["a"], table["s"], table["v"])


class World:
    """An address space with chips and an overlay that comes and goes."""

    def __init__(
        self, chips: Sequence[tuple[int, int, int, Style]], limit: int = 64, base: int = 0
    ) -> None:
        self.space = AddressSpace("memory", limit, 0)
        self.accesses = Batches(self.space)
        self.log: list[tuple[str, int, int, int]] = []
        self.chips = []
        for number, (start, size, priority, style) in enumerate(chips):
            chip = Chip(self, f"chip {number}", size, style)
            self.chips.append(chip)
            self.space.map(chip.region, base + start, priority)
        self._overlay = Chip(self, "overlay", 8, "all").region
        self._overlay_at = base + (limit - base) // 2
        self._overlaid: Mapping | None = None

    def move_overlay(self) -> None:
        if self._overlaid is None:
            self._overlaid = self.space.map(self._overlay, self._overlay_at, 2)
        else:
            self.space.unmap(self._overlaid)
            self._overlaid = None

    def one_by_one(self, writes: Sequence[Write]) -> None:
        for address, size, value in writes:
            try:
                self.space.write(address, size, value)
            except ArithmeticError as error:
                self.accesses.failed(self.space, address, size, value, error)

    def outcome(self) -> tuple[object, ...]:
        flat = [(r.start, r.end, r.mapping and r.mapping.region.name) for r in self.space.flat()]
        return self.log, self.accesses.failures, self.space.unassigned_accesses, flat


def cut(write: Write) -> Write:
    address, size, value = write
    return address, size, value & (1 << 8 * size) - 1


styles = st.sampled_from(get_args(Style))
chips = st.lists(
    st.tuples(st.integers(0, 63), st.integers(1, 64), st.integers(-1, 1), styles).filter(
        lambda c: c[0] + c[1] <= 64
    ),
    max_size=5,
)
values = st.integers(0, (1 << 64) - 1) | st.sampled_from([RAISES, REMAPS])
writes_near = st.tuples(st.integers(0, 66), st.integers(1, 8), values).map(cut)
runs = st.builds(
    lambda start, count, size, value: [
        cut(((start + i) % 64, size, value + i)) for i in range(count)
    ],
    st.integers(0, 63),
    st.integers(1, 40),
    st.sampled_from([1, 1, 1, 2, 4, 8, 3]),
    st.integers(0, 0xFF),
)
batches = st.lists(st.one_of(runs, writes_near.map(lambda w: [w])), min_size=1, max_size=12).map(
    lambda parts: [write for part in parts for write in part]
)


def same(make: Callable[[], World], writes: Sequence[Write]) -> World:
    """Carry writes out both ways; the batch's world, which must have ended as the other."""
    scalar, batch = make(), make()
    scalar.one_by_one(writes)
    batch.accesses.batch(writes)
    assert batch.outcome() == scalar.outcome()
    return batch


@pytest.mark.slow
@settings(max_examples=300)
@given(chips, batches)
@example([(0, 64, 0, "all")], [(i, 1, v) for i, v in enumerate([1, REMAPS, 2, RAISES] * 9)])
def test_a_batch_equals_single_writes(
    layout: list[tuple[int, int, int, Style]], writes: list[Write]
) -> None:
    same(lambda: World(layout), writes)


TOP = 1 << 64
at_top = st.tuples(st.integers(TOP - 64, TOP - 1), st.integers(1, 8), values).map(cut)


@pytest.mark.slow
@given(chips, st.lists(at_top, min_size=1, max_size=40))
def test_a_batch_at_the_top_of_the_64_bit_space_equals_single_writes(
    layout: list[tuple[int, int, int, Style]], writes: list[Write]
) -> None:
    same(lambda: World(layout, TOP, TOP - 64), writes)


def test_a_run_that_wraps_past_the_top_is_cut_there() -> None:
    """The last byte of such a write, taken in 64 bits, lies below its first."""
    writes = [(TOP - 1, 2, 0x2211)] * 20
    world = same(lambda: World([(0, 64, 0, "all")], TOP, TOP - 64), writes)
    assert set(world.log) == {("chip 0", 63, 1, 0x11)}
    assert world.space.unassigned_accesses == {TOP: 20}


def test_an_empty_batch_is_nothing() -> None:
    world = World([(0, 64, 0, "all")])
    world.accesses.batch([])
    assert world.outcome()[:3] == ([], [], {})


def test_a_write_that_raises_is_consumed_and_reported_and_the_rest_goes_on() -> None:
    for style in get_args(Style):
        world = World([(0, 64, 0, style)])
        world.accesses.batch([(1, 1, 1), (2, 2, RAISES), (3, 1, 3)] * 10)
        assert world.log == [("chip 0", 1, 1, 1), ("chip 0", 3, 1, 3)] * 10
        assert world.accesses.failures == [(2, 2, RAISES, f"chip 0 2 2 {RAISES}")] * 10


def test_a_part_of_a_straddling_write_that_raises_takes_the_later_parts_along() -> None:
    """It is one write: reported once, with its whole address, size and value."""
    world = same(
        lambda: World([(0, 32, 0, "all"), (32, 32, 0, "all")]), [(31, 2, RAISES | 0x5500)] * 10
    )
    assert world.log == []
    assert world.accesses.failures[0][:3] == (31, 2, RAISES | 0x5500)


def test_behind_a_mapping_change_the_rest_is_resolved_anew() -> None:
    """The overlay takes bytes 32 to 39 as soon as it is there, in the middle of a run."""
    for style in get_args(Style):
        writes = [(i % 64, 1, i) for i in range(64)]
        writes[10] = (10, 1, REMAPS)
        world = World([(0, 64, 0, style)])
        world.accesses.batch(writes)
        assert [entry[0] for entry in world.log] == [
            "overlay" if 32 <= i < 40 else "chip 0" for i in range(64)
        ]


def test_after_a_short_count_the_same_region_is_asked_again() -> None:
    world = World([(0, 64, 0, "short")])
    world.accesses.batch([(i, 1, i) for i in range(32)])
    assert [entry[3] for entry in world.log] == list(range(32))
    assert world.chips[0].calls > 1


def test_short_runs_go_one_by_one() -> None:
    """Arrays cost more than they save below SHORTEST_RUN."""
    world = World([(0, 64, 0, "all")])
    world.accesses.batch([(i, 1, i) for i in range(SHORTEST_RUN - 1)])
    assert world.chips[0].calls == 0
    world.accesses.batch([(i, 1, i) for i in range(SHORTEST_RUN)])
    assert world.chips[0].calls == 1


def test_offsets_of_a_run_count_from_the_region_start() -> None:
    seen: list[list[int]] = []

    def write_run(offsets: U64, sizes: U32, values: U64) -> int:
        seen.append(offsets.tolist())
        return len(offsets)

    space = AddressSpace("memory", TOP, 0)
    space.map(Region("r", 0x20, lambda _o, _s: 0, lambda _o, _s, _v: None, write_run), TOP - 0x20)
    Batches(space).batch([(TOP - 0x20 + i, 1, 0) for i in range(16)])
    assert seen == [list(range(16))]


def test_no_run_is_offered_that_leaves_the_region() -> None:
    """Writes that cross an edge, or lie elsewhere, split a run."""
    world = World([(0, 32, 0, "all"), (32, 16, 0, "all")])
    writes = [(8, 4, 1)] * 10 + [(30, 4, 2)] + [(40, 4, 3)] * 10 + [(50, 1, 4)] * 10
    world.accesses.batch(writes)
    assert world.chips[0].calls == 1
    assert world.chips[1].calls == 1
    assert world.space.unassigned_accesses == {50: 10}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "write_run() gave NoneType, expected an int"),
        (2.0, "write_run() gave float, expected an int"),
        ("2", "write_run() gave str, expected an int"),
        (-1, "write_run() gave -1, expected a count of 0 to 9"),
        (10, "write_run() gave 10, expected a count of 0 to 9"),
    ],
)
def test_an_answer_that_is_no_count_costs_the_first_entry_and_the_rest_goes_on(
    answer: object, said: str
) -> None:
    log: list[int] = []
    answers = iter([answer])

    def write_run(offsets: U64, _sizes: U32, _values: U64) -> int:
        given: int = next(answers, len(offsets))  # type: ignore[assignment]
        log.extend(offsets.tolist() if isinstance(given, int) and given == len(offsets) else ())
        return given

    space = AddressSpace("memory", 64, 0)
    region = Region("odd", 16, lambda _o, _s: 0, lambda *_: None, write_run)
    space.map(region, 16)
    accesses = Batches(space)
    accesses.batch([(16 + number, 1, number) for number in range(9)])
    assert accesses.failures == [(16, 1, 0, said)]
    assert log == list(range(1, 9))


def test_a_count_may_be_of_any_integer_type() -> None:
    taken: list[int] = []

    def write_run(offsets: U64, _sizes: U32, _values: U64) -> int:
        taken.append(len(offsets))
        return np.int64(len(offsets))  # type: ignore[return-value]

    space = AddressSpace("memory", 64, 0)
    space.map(Region("numpy", 16, lambda _o, _s: 0, lambda *_: None, write_run), 16)
    accesses = Batches(space)
    accesses.batch([(16 + number, 1, 0) for number in range(9)])
    assert accesses.failures == []
    assert taken == [9]
