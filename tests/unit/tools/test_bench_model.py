"""The cost model: what it measures, what it fits, and what it predicts."""

from __future__ import annotations

import math
from contextlib import closing
from itertools import pairwise
from typing import cast

import pytest

from coalesced.tools.bench import batches, model, report
from coalesced.tools.bench.batches import Batch, Point, Spent, spent
from coalesced.tools.bench.measure import Taken, interleaved, spread
from coalesced.tools.bench.model import RINGS, Choice, Constants, Measured, ModelFigures, fit

ADAPTIVE = Constants(round_trip=10_000, full=2_000, append=5, dispatch=20)
BLOCK = Constants(round_trip=30_000, full=2_000, append=5, dispatch=20)
FIXED = 3_000  # of a drain
CHOICE = Choice()
BOTH = {"adaptive": ADAPTIVE, "block": BLOCK}


def drains_of(point: Point, constants: Constants) -> float:
    return FIXED * len(point.batches) + point.queued * constants.dispatch


def test_it_finds_the_constants_that_made_the_figures() -> None:
    points = CHOICE.fitted_points("adaptive")
    wholes = [ADAPTIVE.of_burst(point) for point in points]
    drains = [drains_of(point, ADAPTIVE) for point in points]
    assert fit(points, wholes, drains) == pytest.approx(ADAPTIVE)


def test_a_burst_within_the_ring_is_one_batch() -> None:
    point = Point("adaptive", 1, 169)
    assert (point.full, point.queued, point.batches) == (0, 169, [169])
    assert ADAPTIVE.of_burst(point) == pytest.approx(10_000 + 169 * 25)


def test_a_longer_burst_fills_the_ring_and_leaves_a_rest() -> None:
    point = Point("adaptive", 1, 2 * 170 + 30)
    assert (point.full, point.queued, point.batches) == (2, 368, [169, 169, 30])
    assert ADAPTIVE.of_burst(point) == pytest.approx(3 * 10_000 + 2 * 2_000 + 368 * 25)


def test_a_full_ring_of_one_page_shares_an_exit_among_170_writes() -> None:
    assert ADAPTIVE.of_ring(1) == pytest.approx(12_000 + 169 * 25)


def test_the_cost_of_a_burst_is_that_of_its_batches() -> None:
    """Full, full, rest: each batch with what follows it, and one that was interrupted."""
    point = Point("adaptive", 1, 2 * 170 + 30)
    lasted = {(169, 169): (100, 10), (169, 30): (80, 8), (30, 169): (50, 5)}
    taken, now = [], 0
    lengths = point.batches * 10
    for number, kind in enumerate(zip(lengths, [*lengths[1:], 169], strict=True)):
        whole, drain = lasted[kind]
        taken.append(Batch(now, now + drain, kind[0]))
        now += whole + 1_000_000 * (number in {3, 10})
    assert spent(point, taken) == (230, 23)


def test_a_burst_that_fills_the_ring_leaves_no_rest() -> None:
    """Its load finds an empty ring, which is no batch."""
    point = Point("adaptive", 1, 2 * 170)
    assert (point.full, point.queued, point.batches) == (2, 338, [169, 169])
    taken = [Batch(now, now + 10, 169) for now in range(0, 1000, 100)]
    assert spent(point, taken) == (200, 20)


@pytest.mark.parametrize("missing", [(169, 169), (169, 30), (30, 169)])
def test_a_burst_of_which_a_kind_of_batch_never_came_has_no_cost(missing: tuple[int, int]) -> None:
    """Each is split, as by a drain that something else makes amid it."""
    point = Point("adaptive", 1, 2 * 170 + 30)
    lengths = point.batches * 10
    taken = []
    for now, kind in enumerate(pairwise(lengths)):
        split = [1, kind[0] - 1] if kind == missing else [kind[0]]
        taken += [Batch(100 * now + at, 100 * now + at + 10, n) for at, n in enumerate(split)]
    assert all(math.isnan(each) for each in spent(point, taken))


def test_a_run_without_a_cost_is_left_out() -> None:
    runs = iter([Spent(1, 1), Spent(30, 3), Spent(math.nan, math.nan), Spent(20, 2)])

    class Scripted:
        def measure(self, _point: Point, _writes: int) -> Spent:
            return next(runs)

    measured = Measured(Point("adaptive", 1, 16), cast(batches.Bursts, Scripted()), 1)
    taken = interleaved({"point": measured.run}, 3, lambda: None)
    assert taken["point"].samples == (30, 20)
    assert measured.drains() == [3, 2]


@pytest.mark.slow
@pytest.mark.parametrize("rest", [0, 30])
def test_the_batches_of_a_real_guest_are_those_of_its_bursts(rest: int) -> None:
    point = Point("adaptive", 1, 170 + rest)
    with closing(batches.Bursts("adaptive", 1)) as bursts:
        whole, drains = bursts.measure(point, 10 * point.burst)
        lengths = [each.writes for each in bursts._taps.batches]
    assert lengths == point.batches * 10
    assert 0 < drains < whole


def _figures(truth: dict[str, Constants], slower: float = 1) -> tuple[Taken, Taken]:
    wholes, drains = Taken(), Taken()
    for wait, constants in truth.items():
        fitted = CHOICE.fitted_points(wait)
        for point in CHOICE.points(wait):
            whole = constants.of_burst(point) * (1 if point in fitted else slower)
            wholes[str(point)] = spread([whole] * 3)
            drains[str(point)] = spread([drains_of(point, constants)] * 3)
    return wholes, drains


def figures(truth: dict[str, Constants], slower: float = 1) -> ModelFigures:
    return model.figures_of(CHOICE, *_figures(truth, slower))


def test_the_error_of_each_prediction_is_reported() -> None:
    found = figures(BOTH, slower=1.25)
    assert (found.error_percent.median, found.error_percent.greatest) == pytest.approx((20, 20))
    assert len(found.predictions) == 2 * (4 * 7 - 2 * 4)
    assert all(p.error_percent == pytest.approx(-20, abs=0.01) for p in found.predictions)
    assert found.constants["adaptive"] == pytest.approx(
        {"round_trip_ns": 10_000, "full_ns": 2_000, "append_ns": 5, "dispatch_ns": 20}
    )


def test_a_bigger_ring_costs_less_and_waits_longer() -> None:
    found = figures(BOTH)
    assert found.rings is not None
    assert [ring.ring_pages for ring in found.rings] == list(RINGS)
    costs = [ring.predicted_ns_per_write for ring in found.rings]
    ages = [ring.oldest_us for ring in found.rings]
    assert costs == sorted(costs, reverse=True)
    assert ages == sorted(ages)
    assert ages[0] == pytest.approx(12 + 169 * 0.025)
    assert found.crossover is not None
    assert found.crossover.wake_up_ns == pytest.approx(20_000)
    assert found.crossover.entries == pytest.approx(1000)


def test_a_policy_that_ctrl_c_cut_short_is_left_out() -> None:
    found = figures({"adaptive": ADAPTIVE})
    assert list(found.constants) == ["adaptive"]
    members = report.encoded(found)
    assert isinstance(members, dict)
    assert "crossover" not in members
    assert "fitted" not in members
    assert "rings" in members
    assert model.section(CHOICE, Taken(), Taken()).rows == []
