"""The repetitions that the assembler finds expand to the same list of operations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.hv.abi import OP, OP_LOAD, OP_OUT, OP_STORE
from coalesced.vmm.accel.patterns import (
    FEWEST_FOR_LOOP,
    FEWEST_FOR_RUN,
    LONGEST_PERIOD,
    Item,
    items_of,
    loops,
)


def single(number: int) -> Item:
    return OP_STORE, 1, number, 0


def unrolled(items: list[Item]) -> list[Item]:
    """The items as loops carry them out."""
    result: list[Item] = []
    done = 0
    for start, body, times in loops(items):
        assert start >= done
        assert body >= FEWEST_FOR_LOOP
        assert times > 1
        result += items[done:start] + items[start : start + body] * times
        done = start + body * times
    return result + items[done:]


pieces = st.tuples(
    st.lists(st.integers(0, 3), min_size=1, max_size=LONGEST_PERIOD + 3), st.integers(1, 60)
)


@pytest.mark.slow
@given(st.lists(pieces, max_size=5))
def test_loops_carry_out_the_same_items(parts: list[tuple[list[int], int]]) -> None:
    items = [single(number) for numbers, times in parts for number in numbers * times]
    assert unrolled(items) == items


@pytest.mark.parametrize("period", [1, 3, 32, LONGEST_PERIOD])
def test_what_repeats_often_becomes_short(period: int) -> None:
    items = [single(number % period) for number in range(period * 1000)]
    kept = len(items) - sum(body * (times - 1) for _, body, times in loops(items))
    assert kept <= 2 * (FEWEST_FOR_LOOP + period)


@pytest.mark.slow
def test_many_loops_are_found_in_reasonable_time() -> None:
    """No pair of them is compared."""
    items = [single(block) for block in range(3000) for _ in range(70)]
    assert len(loops(items)) == 3000


def test_stores_one_behind_the_other_are_one_item() -> None:
    ops = np.zeros(3 * FEWEST_FOR_RUN, dtype=OP)
    ops["kind"], ops["size"] = OP_STORE, 2
    ops["address"] = 0xA0000 + 2 * np.arange(len(ops))
    ops["value"] = np.arange(len(ops)) | 0xFF0000  # bytes past the size do not count
    ops["size"][FEWEST_FOR_RUN] = 1  # another size: the run ends, and the next one is too short
    ops["address"][2 * FEWEST_FOR_RUN :] += 2
    items = items_of(ops)
    first = np.arange(FEWEST_FOR_RUN, dtype="<u2").tobytes()
    last = np.arange(2 * FEWEST_FOR_RUN, 3 * FEWEST_FOR_RUN, dtype="<u2").tobytes()
    assert items[0] == (OP_STORE, 2, 0xA0000, first)
    assert items[-1] == (OP_STORE, 2, 0xA0002 + 4 * FEWEST_FOR_RUN, last)
    assert len(items) == 2 + FEWEST_FOR_RUN
    assert items[1] == (OP_STORE, 1, 0xA0000 + 2 * FEWEST_FOR_RUN, FEWEST_FOR_RUN)


def test_what_is_no_run() -> None:
    """Eight bytes, loads and outs stay single; what a load gave does not count."""
    many = 2 * FEWEST_FOR_RUN
    for kind, size in ((OP_STORE, 8), (OP_LOAD, 1), (OP_OUT, 1)):
        ops = np.zeros(many, dtype=OP)
        ops["kind"], ops["size"], ops["value"] = kind, size, 5
        ops["address"] = size * np.arange(many)
        value = 0 if kind == OP_LOAD else 5
        assert items_of(ops) == [(kind, size, size * at, value) for at in range(many)]


def test_nothing_has_no_items() -> None:
    assert items_of(np.zeros(0, dtype=OP)) == []
    assert loops([]) == []
