"""A run of writes leaves the chip exactly as the same writes one by one do."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vga_programs import VRAM, planar_vga, set_gr, set_sr, small_vga

from coalesced.devices.bus.write_run import WriteRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga import Vga

Write = tuple[int, int, int]
Step = tuple[str, int, int]

EDGES = (0, 0x7FF8, 0x8000, 0xFFF0, 0x10000, 0x17FF0, 0x18000, 0x1FFE0)


@st.composite
def writes(draw: st.DrawFn) -> list[Write]:
    """Writes near the edges of the maps, often of one size, often aligned, with repeats."""
    size_strategy = draw(
        st.sampled_from(
            [*(st.just(size) for size in range(1, 9)), st.integers(1, 8), st.sampled_from((1, 2))]
        )
    )
    aligned = draw(st.booleans())
    edges = draw(st.lists(st.sampled_from(EDGES), min_size=1, max_size=3))
    run = []
    for _ in range(draw(st.sampled_from((1, 12, 30)))):
        size = draw(size_strategy)
        offset = draw(st.sampled_from(edges)) + draw(st.integers(0, 24))
        if aligned:
            offset -= offset % size
        run.append((offset, size, draw(st.integers(0, (1 << (8 * size)) - 1))))
    return run


registers = st.one_of(
    st.tuples(st.just("sr"), st.just(2), st.one_of(st.just(15), st.integers(0, 15))),
    st.tuples(st.just("sr"), st.just(4), st.sampled_from((2, 6, 0x0E))),
    st.tuples(st.just("gr"), st.just(5), st.sampled_from((0, 0, 1, 2, 3, 0x10, 8, 0x40))),
    st.tuples(st.just("gr"), st.just(6), st.integers(0, 15)),
    st.tuples(st.just("gr"), st.just(8), st.sampled_from((0xFF, 0x0F, 0x5A, 0))),
    st.tuples(st.just("gr"), st.sampled_from((0, 1, 3, 4, 7)), st.integers(0, 0x1F)),
    st.tuples(st.just("read"), st.sampled_from(EDGES), st.integers(1, 8)),
    st.tuples(st.just("bank"), st.sampled_from((0, 0, 0x10000, 0x30000)), st.just(0)),
)
programs = st.lists(st.tuples(st.lists(registers, max_size=6), writes()), min_size=1, max_size=4)


def apply(vga: Vga, step: Step) -> None:
    kind, index, value = step
    if kind == "sr":
        set_sr(vga, index, value)
    elif kind == "gr":
        set_gr(vga, index, value)
    elif kind == "bank":
        vga.memory.bank_offset = index
        vga.registers.generation += 1
    else:
        vga.window.read(index, value)


def as_run(run: list[Write]) -> WriteRun:
    """Writes as they come out of a ring: read-only and strided."""
    ring = np.zeros(len(run), [("address", "<u8"), ("len", "<u4"), ("pio", "<u4"), ("data", "<u8")])
    for field, column in zip(("address", "len", "data"), zip(*run, strict=True), strict=True):
        ring[field] = column
    ring.flags.writeable = False
    return WriteRun.of(ring["address"], ring["len"], ring["data"])


def twins(seed: int) -> tuple[Vga, Vga]:
    """Two chips with the same random memory, open for writes."""
    pair = (planar_vga(), planar_vga())
    for vga in pair:
        vga.vram[:] = _noise(seed)
    return pair


@lru_cache(4)
def _noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, VRAM, np.uint8)


def run_on(vga: Vga, run: list[Write]) -> None:
    assert vga.window.take_run is not None
    assert vga.window.take_run(as_run(run)) == len(run)


def compare(seed: int, program: list[tuple[list[Step], list[Write]]]) -> None:
    by_run, one_by_one = twins(seed)
    for steps, run in program:
        for step in steps:
            apply(by_run, step)
            apply(one_by_one, step)
        run_on(by_run, run)
        for write in run:
            one_by_one.window.write(*write)
    assert by_run.state() == one_by_one.state()


@pytest.mark.slow
@settings(max_examples=80)
@given(st.integers(0, 3), programs)
def test_run_equals_single_writes(seed: int, program: list[tuple[list[Step], list[Write]]]) -> None:
    compare(seed, program)


@pytest.mark.heavy
@settings(max_examples=600)
@given(st.integers(0, 3), programs)
def test_many_runs_equal_single_writes(
    seed: int, program: list[tuple[list[Step], list[Write]]]
) -> None:
    compare(seed, program)


@pytest.mark.slow
@given(st.integers(0, 1 << 32))
def test_the_same_arrays_may_hold_other_writes(seed: int) -> None:
    """As full rings come: in the arrays of the last one, which hold other numbers by then."""
    random = np.random.default_rng(seed)
    offsets, values = np.zeros(40, np.uint64), np.zeros(40, np.uint64)
    columns = [column[:] for column in (offsets, values)]
    for column in columns:
        column.flags.writeable = False
    same_run = WriteRun(columns[0], np.ones(40, np.uint32), columns[1], 1, (0, 1 << 64))
    by_run, one_by_one = twins(seed % 4)
    assert by_run.window.take_run is not None
    for _ in range(8):
        size = int(random.choice((1, 1, 1, 2)))
        same_run.size = size
        same_run.sizes[:] = size
        offsets[:] = random.integers(0, random.choice((0x100, 0xFFFF, 0x1FFFF)), 40)
        values[:] = random.integers(0, random.choice((256, 256**size)), 40)
        assert by_run.window.take_run(same_run) == 40
        for write in same_run.entries():
            one_by_one.window.write(*write)
        if random.integers(3) == 0:
            step = ("sr", 2, int(random.integers(16)))
            apply(by_run, step)
            apply(one_by_one, step)
    assert by_run.state() == one_by_one.state()


@pytest.mark.slow
@pytest.mark.parametrize("gr5", [0, 1, 2, 3, 0x10])
@pytest.mark.parametrize("sr4", [0x06, 0x0E])
@pytest.mark.parametrize("map_mask", [0x0F, 0x04, 0x06, 0x00, 0x01])
@pytest.mark.parametrize("sizes", [(1,), (2,), (4,), (8,), (1, 2), (2, 4), (3, 5, 7)])
def test_long_runs(gr5: int, sr4: int, map_mask: int, sizes: tuple[int, ...]) -> None:
    """Aligned writes of one size, which may go wide, and mixtures, which may not."""
    random = np.random.default_rng(sum(sizes))
    by_run, one_by_one = twins(1)
    for vga in (by_run, one_by_one):
        for step in (
            ("sr", 2, map_mask),
            ("sr", 4, sr4),
            ("gr", 5, gr5),
            ("gr", 3, 0x1B),
            ("gr", 8, 0x7E),
            ("gr", 0, 0x06),
            ("gr", 1, 0x02),
            ("read", 3, 1),
        ):
            apply(vga, step)
    run = []
    for size in random.choice(sizes, 600).tolist():
        offset = (0xF000 + int(random.integers(0, 0x2000))) // max(sizes) * max(sizes)
        run.append(
            (offset, size, int(random.integers(0, 256**size - 1, dtype=np.uint64, endpoint=True)))
        )
    run_on(by_run, run)
    for write in run:
        one_by_one.window.write(*write)
    assert by_run.state() == one_by_one.state()


def test_the_last_of_equal_addresses_wins() -> None:
    vga = planar_vga()
    run_on(vga, [(5, 1, value) for value in range(100)])
    assert vga.vram[20:24].tolist() == [99] * 4


def test_offsets_and_values_beyond_all_bounds_are_harmless() -> None:
    vga = small_vga()
    top = (1 << 64) - 1
    for sr4 in (0x06, 0x0E):
        set_sr(vga, 4, sr4)
        for gr6 in (0x00, 0x04, 0x08, 0x0C):
            set_gr(vga, 6, gr6)
            run_on(vga, [(top - 8, 1, top), (1 << 63, 8, top), (0x20000, 4, top)] * 20)
    assert not vga.vram.any()


def test_the_plan_follows_the_latches_alone() -> None:
    vga = planar_vga()
    set_gr(vga, 5, 1)
    vga.vram[400:408] = (1, 2, 3, 4, 5, 6, 7, 8)
    run = [(offset, 1, 0xFF) for offset in range(64)]
    for address, expected in ((100, [1, 2, 3, 4]), (101, [5, 6, 7, 8])):
        vga.window.read(address, 1)
        run_on(vga, run)
        assert vga.vram[:4].tolist() == expected


def test_the_plan_follows_registers_and_latches() -> None:
    vga = planar_vga()
    run = [(offset, 1, 0xFF) for offset in range(64)]
    run_on(vga, run)
    set_gr(vga, 5, 1)
    vga.vram[400:404] = (1, 2, 3, 4)
    vga.window.read(100, 1)
    run_on(vga, run)
    assert vga.vram[:4].tolist() == [1, 2, 3, 4]
    vga.reset()
    run_on(vga, run)
    assert vga.vram[:4].tolist() == [1, 2, 3, 4], "after reset everything is closed"


def test_single_writes_follow_registers_and_latches() -> None:
    vga = planar_vga()
    vga.vram[:8] = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80)
    set_gr(vga, 8, 0x0F)
    for at in (0, 1):
        vga.window.read(at, 1)
        vga.window.write(100 + at, 1, 0xFF)
    assert vga.vram[400:408].tolist() == [0x1F, 0x2F, 0x3F, 0x4F, 0x5F, 0x6F, 0x7F, 0x8F]
    set_gr(vga, 8, 0xFF)
    vga.window.write(100, 1, 0xFF)
    assert vga.vram[400:404].tolist() == [0xFF] * 4
