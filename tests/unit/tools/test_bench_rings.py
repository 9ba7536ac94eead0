"""`bench rings`: a network card's exits beside a screen."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from coalesced.tools.bench import rings
from coalesced.tools.bench.measure import Taken, spread
from coalesced.tools.bench.registry import Options
from coalesced.tools.bench.rings import LOADS, WAYS, Beside, RingsFigures, Subject, Times, section
from coalesced.vmm.own_rings import DEVICE, VM
from helpers.bench_plans import carried_out


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_write_is_drawn_and_every_exit_timed(way: str) -> None:
    subject = Subject(LOADS[0], way, 1, 40)
    assert subject.measure() > 0
    kept = subject.measure()
    found = subject.figures()
    assert found.exit_us is not None
    assert found.age_us is not None
    assert found.exit_us.p50 <= kept  # of two middle ones the lesser
    assert 0 < found.exit_us.p50 <= found.exit_us.p99 <= found.exit_us.max
    assert 0 < found.age_us.p50 <= found.age_us.p99 <= found.age_us.max


def test_the_first_run_warms_up() -> None:
    subject = Subject(LOADS[0], VM, 1, 3)
    assert subject.figures() == Beside(None, None)
    subject._exits = [np.array(ns, np.int64) for ns in ([9000, 9000, 9000], [1000, 2000, 4000])]
    subject._ages = [Times(9, 9, 9), Times(1, 2, 3)]
    assert subject.figures() == Beside(Times(2.0, 4.0, 4.0), Times(1, 2, 3))


def test_the_charts_show_each_way() -> None:
    subjects = [Subject(load, way, pages, 1) for load in LOADS for way in WAYS for pages in (1, 8)]
    for number, subject in enumerate(subjects):
        subject._exits = [np.array([1000 * number], np.int64)] * 2
        subject._ages = [Times(1, number, number)] * 2
    found = section((1, 8), subjects, Taken({str(each): spread([1.0]) for each in subjects}))
    light, heavy = found.charts
    assert light.lines[:2] == (
        ("an exit, one ring", [(1.0, 0.0), (8.0, 1.0)]),
        ("an exit, a ring per device", [(1.0, 2.0), (8.0, 3.0)]),
    )
    assert heavy.lines[2] == ("age of a write, one ring", [(1.0, 4), (8.0, 5)])
    figures = cast(RingsFigures, found.figures)
    assert figures.heavy[DEVICE][8].age_us == Times(1, 7, 7)


@pytest.mark.heavy
def test_each_is_measured() -> None:
    found = carried_out(rings.plan(Options(quick=True, ring_pages=1)))
    assert len(found.rows) == len(LOADS) * len(WAYS)
    assert all(row.figure.low > 0 and row.remark for row in found.rows)
