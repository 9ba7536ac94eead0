"""The cost model: what it fits, and what it predicts."""

from __future__ import annotations

import pytest

from coalesced.tools.bench import model, report
from coalesced.tools.bench.measure import Taken, spread
from coalesced.tools.bench.model import RINGS, Choice, Constants, ModelFigures, Point, fit

ADAPTIVE = Constants(round_trip=10_000, append=5, dispatch=20)
BLOCK = Constants(round_trip=30_000, append=5, dispatch=20)
FIXED = 3_000  # of a drain
CHOICE = Choice()
BOTH = {"adaptive": ADAPTIVE, "block": BLOCK}


def test_it_finds_the_constants_that_made_the_figures() -> None:
    cycles = [ADAPTIVE.round_trip + n * 25 for n in CHOICE.fitted]
    drains = [FIXED + n * 20 for n in CHOICE.fitted]
    assert fit(CHOICE.fitted, cycles, drains) == pytest.approx(ADAPTIVE)


def test_a_full_ring_of_one_page_shares_an_exit_among_170_writes() -> None:
    point = Point("adaptive", 1)
    assert (point.queued, point.per_exit) == (169, 170)
    assert ADAPTIVE.per_write(point) == pytest.approx((10_000 + 169 * 25) / 170)


def test_a_burst_shares_its_load() -> None:
    assert ADAPTIVE.per_write(Point("adaptive", 64, 100)) == pytest.approx(125)


def _figures(truth: dict[str, Constants], slower: float = 1) -> tuple[Taken, Taken]:
    cycles, drains = Taken(), Taken()
    for wait, constants in truth.items():
        for point in CHOICE.fitted_points(wait):
            cycle = constants.per_write(point) * point.per_exit
            drain = FIXED + point.queued * constants.dispatch
            cycles[str(point)], drains[str(point)] = spread([cycle] * 3), spread([drain] * 3)
        for point in CHOICE.tried_points(wait):
            cycle = constants.per_write(point) * point.per_exit * slower
            cycles[str(point)] = drains[str(point)] = spread([cycle] * 3)
    return cycles, drains


def figures(truth: dict[str, Constants], slower: float = 1) -> ModelFigures:
    return model.figures_of(CHOICE, *_figures(truth, slower))


def test_the_error_of_each_prediction_is_reported() -> None:
    found = figures(BOTH, slower=1.25)
    assert (found.error_percent.median, found.error_percent.greatest) == pytest.approx((20, 20))
    assert len(found.predictions) == len(CHOICE.policies) * (1 + len(CHOICE.tried_rings))
    assert all(p.error_percent == pytest.approx(-20, abs=0.01) for p in found.predictions)
    assert found.constants["adaptive"] == pytest.approx(
        {"round_trip_ns": 10_000, "append_ns": 5, "dispatch_ns": 20}
    )


def test_a_bigger_ring_costs_less_and_waits_longer() -> None:
    found = figures(BOTH)
    assert found.rings is not None
    assert [ring.ring_pages for ring in found.rings] == list(RINGS)
    costs = [ring.predicted_ns_per_write for ring in found.rings]
    ages = [ring.oldest_us for ring in found.rings]
    assert costs == sorted(costs, reverse=True)
    assert ages == sorted(ages)
    assert ages[0] == pytest.approx(10 + 169 * 0.025)
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
