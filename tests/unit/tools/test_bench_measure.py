"""Repetitions, their spread, and percentiles of single times."""

from __future__ import annotations

import math
from functools import partial
from random import Random

import numpy as np
import pytest

from coalesced.tools.bench.exits import tail
from coalesced.tools.bench.measure import interleaved, percentile, rounds, spread
from coalesced.tools.bench.progress import shown, stopped


def test_spread_of_samples() -> None:
    assert spread([3.0, 1.0, 2.0])[:3] == (2.0, 1.0, 3.0)


def test_a_spread_in_another_unit() -> None:
    scaled = spread([1000.0, 2000.0, 3000.0]).scaled(1e-3)
    assert scaled[:3] == pytest.approx((2.0, 1.0, 3.0))
    assert scaled.samples == pytest.approx((1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("count", "left_out"), [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2)]
)
def test_the_median_lies_in_the_inner_samples(count: int, left_out: int) -> None:
    """`left_out`: samples outside it at either end, the sign test's critical value at 5 %."""
    samples = [float(number) for number in range(count)]
    assert spread(samples[::-1]).interval() == (left_out, count - 1 - left_out)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        low, high = spread(random.exponential(size=9).tolist()).interval()
        held += low <= math.log(2) <= high
    assert held / 2000 >= 0.95 - 0.01


def test_rounds_over_all_subjects_and_the_first_one_warms_up() -> None:
    calls: list[str] = []
    steps = [0]

    def subject(name: str, samples: list[float]) -> float:
        calls.append(name)
        return samples.pop(0)

    def step() -> None:
        steps[0] += 1

    a, b = [1000.0, 1.0, 2.0, 3.0], [2000.0, 5.0, 4.0, 6.0]
    taken = interleaved({"a": lambda: subject("a", a), "b": lambda: subject("b", b)}, 3, step)
    assert calls == ["a", "b"] * 4
    assert taken == {"a": spread([1.0, 2.0, 3.0]), "b": spread([5.0, 4.0, 6.0])}
    assert steps[0] == 2 * rounds(3)


def test_chance_gives_each_round_an_order_of_its_own() -> None:
    calls: list[str] = []

    def subject(name: str) -> float:
        calls.append(name)
        return 1.0

    names = list("abcdefgh")
    subjects = {name: partial(subject, name) for name in names}
    interleaved(subjects, 7, lambda: None, Random(1))
    orders = [calls[at : at + len(names)] for at in range(0, len(calls), len(names))]
    assert [sorted(order) for order in orders] == [names] * 8
    assert len(set(map(tuple, orders))) == 8


def test_progress_says_nothing_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(10) as progress:
        step = progress.part("something", 2, 10)
        step()
        step()
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_ends_the_rounds_and_keeps_what_was_taken() -> None:
    left = [7]

    def first() -> float:
        return 1.0

    def second() -> float:
        left[0] -= 1
        if left[0] == 5:
            raise KeyboardInterrupt
        return 2.0

    def third() -> float:
        return 3.0

    with shown(10) as progress:
        step = progress.part("something", 1, 10)
        taken = interleaved({"first": first, "second": second, "third": third}, 9, step)
        assert stopped()
    assert taken == {"first": spread([1.0])}
    assert math.isnan(taken["second"].median)


def test_ctrl_c_goes_through_where_nobody_would_report() -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleaved({"a": interrupted}, 1, lambda: None)


def test_percentiles_are_values_that_occurred() -> None:
    times = np.arange(1000, 101_000, 100)  # 1000 of them
    assert percentile(times, 50) == 50.9
    assert percentile(times, 99) == 99.9
    assert percentile(times, 99.9) == 100.8
    assert percentile(times, 100) == 100.9
    assert math.isnan(percentile(np.zeros(0, np.int64), 50))


def test_the_curve_of_a_tail_ends_at_its_longest() -> None:
    curve = tail(np.array([1000] * 999 + [50_000]))
    assert curve[0] == (1.0, 1.0)
    assert curve[-1] == pytest.approx((1000.0, 50.0))
    assert all(y == 1.0 for x, y in curve if x < 990)
