"""The cost model: what it fits, and what it predicts."""

from __future__ import annotations

import pytest

from coalesced.tools.bench import model
from coalesced.tools.bench.measure import Taken, spread
from coalesced.tools.bench.model import FITTED, POLICIES, RINGS, Constants, Point, fit

ADAPTIVE = Constants(round_trip=10_000, append=5, dispatch=20)
BLOCK = Constants(round_trip=30_000, append=5, dispatch=20)
FIXED = 3_000  # of a drain


def test_it_finds_the_constants_that_made_the_figures() -> None:
    cycles = [ADAPTIVE.round_trip + n * 25 for n in FITTED]
    drains = [FIXED + n * 20 for n in FITTED]
    assert fit(FITTED, cycles, drains) == pytest.approx(ADAPTIVE)


def test_a_full_ring_of_one_page_shares_an_exit_among_170_writes() -> None:
    point = Point("adaptive", 1)
    assert (point.queued, point.per_exit) == (169, 170)
    assert ADAPTIVE.per_write(point) == pytest.approx((10_000 + 169 * 25) / 170)


def test_a_burst_shares_its_load() -> None:
    assert ADAPTIVE.per_write(Point("adaptive", 64, 100)) == pytest.approx(125)


def _figures(truth: dict[str, Constants], slower: float = 1) -> tuple[Taken, Taken]:
    cycles, drains = Taken(), Taken()
    for wait, constants in truth.items():
        for point in model.fitted_points(wait):
            cycle = constants.per_write(point) * point.per_exit
            drain = FIXED + point.queued * constants.dispatch
            cycles[str(point)], drains[str(point)] = spread([cycle] * 3), spread([drain] * 3)
        for point in model.tried_points(wait):
            cycle = constants.per_write(point) * point.per_exit * slower
            cycles[str(point)] = drains[str(point)] = spread([cycle] * 3)
    return cycles, drains


def test_the_error_of_each_prediction_is_told() -> None:
    section = model.section(*_figures({"adaptive": ADAPTIVE, "block": BLOCK}, slower=1.25))
    values = section.values
    assert values["error_percent"] == {"median": 20.0, "greatest": 20.0}
    predictions = values["predictions"]
    assert isinstance(predictions, list)
    assert len(predictions) == len(POLICIES) * (1 + len(model.TRIED_RINGS))
    assert all(p["error_percent"] == pytest.approx(-20, abs=0.01) for p in predictions)
    constants = values["constants"]
    assert isinstance(constants, dict)
    assert constants["adaptive"] == {
        "round_trip_ns": 10_000,
        "append_ns": 5,
        "dispatch_ns": 20,
    }


def test_a_bigger_ring_costs_less_and_waits_longer() -> None:
    values = model.section(*_figures({"adaptive": ADAPTIVE, "block": BLOCK})).values
    rings = values["rings"]
    assert isinstance(rings, list)
    assert [ring["ring_pages"] for ring in rings] == list(RINGS)
    costs = [ring["predicted_ns_per_write"] for ring in rings]
    ages = [ring["oldest_us"] for ring in rings]
    assert costs == sorted(costs, reverse=True)
    assert ages == sorted(ages)
    assert ages[0] == pytest.approx(10 + 169 * 0.025)
    assert values["crossover"] == {"wake_up_ns": 20_000, "entries": 1000}


def test_what_ctrl_c_left_too_little_of_is_left_out() -> None:
    cycles, drains = _figures({"adaptive": ADAPTIVE})
    values = model.section(cycles, drains).values
    assert list(values["constants"] or ()) == ["adaptive"]  # type: ignore[call-overload]
    assert "crossover" not in values
    assert model.section(Taken(), Taken()).rows == []
