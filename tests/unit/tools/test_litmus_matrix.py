"""The shipped ring.h and exit.h, each order relaxed in turn, in every model."""

from __future__ import annotations

import json

import pytest

from coalesced.tools.litmus.cases import Case, outcome
from coalesced.tools.litmus.models import MODELS
from helpers.command_line import status_of

# Barrier: the models that need it.
NEEDED = {
    "ACQUIRE_FIRST": set(),
    "RELEASE_LAST": {"rc11", "weak"},
    "ACQUIRE_LAST": {"rc11", "weak"},
    "RELEASE_FIRST": {"weak"},
    "RELEASE_EXIT": {"rc11", "weak"},
    "ACQUIRE_EXIT": {"rc11", "weak"},
    "RELEASE_RESUME": {"rc11", "weak"},
    "ACQUIRE_RESUME": {"rc11", "weak"},
    "FENCE_WAKEUP": {"tso", "rc11", "weak"},
    "WAKER_FENCE": {"tso", "rc11", "weak"},
    "SLEEPER_FENCE": {"tso", "rc11", "weak"},
}


@pytest.mark.heavy
def test_each_barrier_is_needed_in_the_models_that_reorder_what_it_orders(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of(["litmus", "--matrix", "--entries", "7", "--json"], print) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["bounds"] == {"slots": 3, "entries": 7}
    needed = {
        barrier: {model for model, says in row.items() if says == "needed"}
        for barrier, row in report["matrix"].items()
    }
    assert needed == NEEDED
    for row in report["matrix"].values():
        assert set(row) == set(MODELS)
        assert all(says == "needed" or says.startswith("redundant: ") for says in row.values())
    for case in report["cases"]:
        assert case["ok"] == (not case["events"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slots", "entries", "ok"), [(2, 3, True), (2, 5, True), (3, 3, True), (3, 4, False)]
)
def test_release_of_first_shows_from_three_slots_and_four_entries_on(
    slots: int, entries: int, ok: bool
) -> None:
    """A late read finds a later entry, for which two entries must have been taken at once."""
    found = outcome(Case("ring", "release-first", "weak", slots, entries))
    assert found.verdict.ok == ok
    assert found.as_expected
