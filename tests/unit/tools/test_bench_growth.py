"""`bench growth`, cost by the size of a VM's parts: the fit, the section, and a real run."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coalesced.devices.e1000 import registers as reg
from coalesced.tools.bench import growing_trace, growth
from coalesced.tools.bench.growing import EXIT, WRITE
from coalesced.tools.bench.growing_hub import Hub
from coalesced.tools.bench.growth import AXES, Axis, exponent, section
from coalesced.tools.bench.measure import Taken, spread
from coalesced.tools.bench.registry import BENCHES, Options
from coalesced.tools.guests import bench
from helpers.bench_plans import carried_out

ZONES = Axis("zones", "zones", (1, 10, 100))


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    points = [(size, 7.0 * size**power) for size in (1.0, 3.0, 10.0, 200.0)]
    assert exponent(points) == pytest.approx(power, abs=1e-9)
    assert exponent([*points, (50.0, math.nan)]) == pytest.approx(power, abs=1e-9)


def test_a_single_point_has_no_exponent() -> None:
    assert math.isnan(exponent([(1.0, 2.0)]))
    assert math.isnan(exponent([(1.0, 2.0), (2.0, math.nan)]))


def test_a_section_has_a_row_and_a_line_for_each_cost() -> None:
    taken = Taken()
    for size in ZONES.sizes:
        taken[ZONES.name(WRITE, size)] = spread([size * 2.0, size * 4.0, size * 3.0])
        taken[ZONES.name(EXIT, size)] = spread([500.0])
    found = section([ZONES], taken)
    write, exit_ = found.rows
    assert write.what == "1 to 100 zones: a write"
    assert write.figure[:3] == (30.0, 3.0, 300.0)
    assert (write.remark, exit_.remark) == ("n^1.00", "n^0.00")
    (chart,) = found.charts
    assert [line[1][0] for line in chart.lines] == [(1.0, 3.0), (1.0, 500.0)]
    assert isinstance(found.figures, dict)
    curve = found.figures["zones"][WRITE]
    assert (curve.least, curve.greatest, curve.points[1].spread) == (3.0, 300.0, (20.0, 40.0))
    assert found.figures["regions"] == {}


def test_ctrl_c_before_the_first_sample_leaves_a_section_without_figures() -> None:
    found = section([ZONES], Taken())
    assert all(math.isnan(row.figure.median) for row in found.rows)


def test_all_benchmarks_together_leave_it_out() -> None:
    assert [name for name, bench in BENCHES.items() if bench.alone] == ["growth", "vcpus", "rings"]


@pytest.mark.parametrize("cards", [1, 3, 32])
def test_a_frame_reaches_every_other_card_on_the_hub(cards: int) -> None:
    hub = Hub(cards)
    with closing(hub.machine):
        assert hub.measure(2) > 0
        hub.machine.flush()
        frames = 2 * bench.HUB_TURNS * bench.HUB_BURST
        assert [card.registers[reg.TPR] for card in hub.cards[1:]] == [frames] * (cards - 1)


def test_a_longer_trace_repeats_the_same_accesses(tmp_path: Path) -> None:
    growing_trace.write(tmp_path / "one", growing_trace.PERIOD)
    growing_trace.write(tmp_path / "three", 3 * growing_trace.PERIOD)
    one, three = ((tmp_path / name).read_bytes() for name in ("one", "three"))
    assert one.count(b"\n") == growing_trace.PERIOD
    assert three == 3 * one


@pytest.mark.slow
def test_a_recording_is_read_then_replayed() -> None:
    with ExitStack() as stack:
        costs = growing_trace.of_trace(growing_trace.PERIOD, growth.QUICK, stack)
        read, replayed, whole = (costs[cost]() for cost in AXES[-1].costs)
    assert read > 0
    assert 0 < replayed < whole


def test_a_quick_run_stays_within_the_quick_sizes() -> None:
    axis = Axis("zones", "zones", (1, 2, 4, 8, 16), quick=4)
    assert growth._quick(axis).sizes == (1, 2, 4)
    assert growth._quick(axis._replace(quick=2)).sizes == (1, 2)


def test_sizes_that_need_over_half_of_the_memory_are_left_out() -> None:
    axis = Axis("ram_mib", "MiB", (1, 2, 4), kib=1024)
    assert growth._fitting(axis, 4096).sizes == (1, 2)
    assert growth._fitting(axis._replace(kib=0), 0).sizes == axis.sizes


@pytest.mark.heavy
def test_every_axis_is_measured() -> None:
    found = carried_out(growth.plan(Options(quick=True)))
    assert len(found.rows) == sum(len(axis.costs) for axis in AXES)
    assert all(row.figure.low > 0 for row in found.rows)
