"""The report of `coalesced stress` says what ran."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coalesced.tools.stress import report
from coalesced.tools.stress.jobs import Result
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.totals import Totals
from coalesced.tools.stress.wanted import Wanted


@pytest.fixture
def result() -> Result:
    """Of three pairs, one of which posted writes."""
    totals = Totals()
    setup = replace(Plan(1, Pins(vcpus=4, rings=3)).next(), bells=0.02, posted=True)
    for each in (setup, replace(setup, posted=False), replace(setup, posted=False, bells=0.0)):
        totals.count(cast("Any", SimpleNamespace(setup=each)))
    return Result(Wanted(1, vcpus=4, rings=3), totals, 1.0, True, 0.0)


def test_the_json_names_vcpus_own_rings_and_posted_pairs(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    report.show(result, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [told[key] for key in ("vcpus", "rings", "pairs", "posted_pairs")] == [4, 3, 3, 1]


def test_the_table_names_them(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    report.show(result, json=False)
    rows = dict(
        line.strip("│ ").split("│")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    )
    told = {name.strip(): value.strip() for name, value in rows.items()}
    assert told["vCPUs of each pair"] == "4"
    assert told["own rings of each pair"] == "3"
    assert told["that posted writes"] == "1"
