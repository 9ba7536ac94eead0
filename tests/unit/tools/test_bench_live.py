"""`bench live`: its figures, and its ends."""

from __future__ import annotations

import importlib.util
import math

import pytest

from coalesced.hv.errors import HostError
from coalesced.tools.bench import live
from coalesced.tools.bench.measure import NOTHING, Taken, spread

SHORT = live.Sizes(repetitions=1, settling=0.0, sample=0.1)
NEEDED = ("starlette", "uvicorn", "websockets")
needs_server = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="needs the extra [live]",
)


def test_a_loss_is_that_of_writes_per_second_between_neighbours() -> None:
    lost = live.losses(spread([100.0, 200.0, 300.0]), spread([125.0, 200.0]))
    assert lost.samples == pytest.approx((20.0, 0.0))
    assert live.losses(NOTHING, NOTHING) is NOTHING


def test_the_limit_stands_beside_the_loss() -> None:
    taken = Taken({name: spread([100.0]) for name in (live.PLAIN, live.CLOSED)})
    taken[live.OPEN] = spread([104.0])
    rows = {row.what: row for row in live.section(taken, [9.0], {}).rows}
    row = rows["  lost by the open page, %"]
    assert row.figure.median == pytest.approx(100 * 4 / 104)
    assert "at most 5 % is accepted" in row.remark


def test_without_the_page_nothing_is_measured_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_arguments: object) -> live.Pair:
        raise HostError("uvicorn is not installed")

    monkeypatch.setattr(live, "Pair", refuse)
    section = live.measure(SHORT, lambda: None)
    assert section.missing == {"the page": "uvicorn is not installed"}
    assert all(math.isnan(row.figure.median) for row in section.rows)


@pytest.mark.slow
def test_a_command_that_fails_is_reported_with_its_line() -> None:
    with pytest.raises(HostError, match=r"^guest none\.py: no such file$"):
        live.Running("live", "none.py:main")


@pytest.mark.heavy
@needs_server
def test_a_guest_is_measured_without_a_page_and_with_one_closed_and_open() -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    section = live.measure(SHORT, step)
    assert steps == 6
    assert section.missing == {}
    assert all(math.isfinite(row.figure.median) for row in section.rows)
    figures = section.figures
    assert isinstance(figures, live.LiveFigures)
    assert 0 < figures.frames_per_second.median <= 40
