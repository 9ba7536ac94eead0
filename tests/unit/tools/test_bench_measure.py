"""Repetitions and their spread."""

from __future__ import annotations

import pytest

from tools.bench.measure import Spread, interleaved, progress, rounds, spread


def test_spread_of_samples() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_spread_in_another_unit() -> None:
    assert Spread(2000.0, 1000.0, 3000.0).scaled(1e-3) == pytest.approx((2.0, 1.0, 3.0))


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
    assert taken == {"a": Spread(2.0, 1.0, 3.0), "b": Spread(5.0, 4.0, 6.0)}
    assert steps[0] == 2 * rounds(3)


def test_progress_says_nothing_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("something", 2) as step:
        step()
        step()
    assert capfd.readouterr() == ("", "")
