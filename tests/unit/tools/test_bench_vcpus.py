"""The benchmark of several producers: what it measures, and what it reports."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest

from coalesced.tools.bench import floors, vcpus
from coalesced.tools.bench.measure import Taken, spread
from coalesced.tools.bench.registry import Options
from coalesced.tools.bench.vcpus import COUNTS, THREADS, VCPUS, WAYS, VcpusFigures, section
from helpers.bench_plans import carried_out


@pytest.mark.parametrize("own", [False, True], ids=["one ring", "a ring each"])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("producers", [1, 3, 8])
def test_entries_of_all_threads_come_through(producers: int, batch: int, own: bool) -> None:
    found = None
    for seconds in (0.01, 1.0, 60.0):  # on a busy machine none may come through in a while
        with suppress(RuntimeError):
            found = floors.producers(producers, 1, batch, own, seconds)
            break
    assert found is not None
    ns, fairness = found
    assert ns > 0
    assert 0 <= fairness <= 1
    assert producers > 1 or fairness == 1


def test_an_entry_is_awaited_however_short_the_time_is() -> None:
    """A busy machine may run none of the threads in it."""
    for own in (False, True):
        ns, _ = floors.producers(8, 1, 1, own, 1e-9)
        assert ns > 0


@pytest.mark.parametrize(
    "arguments", [(0, 1, 64), (9, 1, 64), (1, 0, 64), (1, 4097, 64), (1, 1, 0)]
)
def test_producers_that_cannot_be(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8 producers"):
        floors.producers(*arguments, False, 0.01)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_cannot_be(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        floors.producers(1, 1, 64, False, seconds)


def test_a_row_for_each_way_and_number_of_producers() -> None:
    names = [f"{way.label}: {count}" for way in WAYS for count in COUNTS]
    taken = Taken({name: spread([10.0 + place]) for place, name in enumerate(names)})
    found = section(8, taken, {names[0]: 1.0, names[1]: 0.5})
    assert [row.what for row in found.rows] == names
    assert found.rows[1].remark == "the least share is 50% of the greatest"
    assert found.rows[2].remark == ""
    assert isinstance(found.figures, VcpusFigures)
    assert found.figures.ring_pages == 8
    assert found.figures.one_vm[2].fairness == 0.5
    assert found.figures.rings[1].ns_per_entry.median == taken[f"{THREADS[1].label}: 1"].median
    (chart,) = found.charts
    assert chart.lines[0] == (VCPUS[0].label, [(1.0, 10.0), (2.0, 11.0), (4.0, 12.0), (8.0, 13.0)])


def test_ctrl_c_before_the_first_sample_leaves_a_section_without_figures() -> None:
    found = section(8, Taken(), {})
    assert all(math.isnan(row.figure.median) for row in found.rows)


@pytest.mark.heavy
def test_each_is_measured() -> None:
    found = carried_out(vcpus.plan(Options(quick=True, ring_pages=1)))
    assert all(row.figure.low > 0 for row in found.rows)
    assert all(row.remark for row in found.rows)
