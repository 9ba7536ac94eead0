"""`coalesced litmus`: what the table of steps predicts is what the explorer finds."""

from __future__ import annotations

import json

import pytest

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus import run, steps
from coalesced.tools.litmus.cases import Case, cases, explored
from coalesced.tools.litmus.models import KEEPS, LOAD_STORE
from coalesced.tools.litmus.ring import has_room_2009
from helpers.command_line import status_of


def litmus(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, and what is said of an error."""
    said: list[str] = []
    status = status_of(["litmus", *arguments], said.append)
    return status, capsys.readouterr().out, "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--slots", "2", "--entries", "3"], pytest.param([], marks=pytest.mark.heavy)],
    ids=["2 slots, 3 entries", "3 slots, 5 entries"],
)
def test_each_barrier_that_a_model_needs_has_a_witness(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Every execution in the three models, in a small ring and in the one that is the default."""
    status, out, _ = litmus(capsys, "--json", *arguments)
    report = json.loads(out)
    assert status == 0
    assert report["ok"]
    assert report["models"] == ["sc", "tso", "weak"]
    found = {(case["removed"], case["protocol"], case["model"]): case for case in report["cases"]}
    assert len(found) == len(report["cases"]) == 3 * (len(steps.PROTOCOLS) + len(steps.BARRIERS))
    broken: dict[str, set[str]] = {model: set() for model in report["models"]}
    for (removed, _, model), case in found.items():
        assert case["ok"] == case["expected"] == (case["illegal"] == 0)
        assert case["executions"] > 0
        assert (case["witness"] is None) == case["ok"]
        if removed is None:
            assert case["ok"]
        elif not case["ok"]:
            broken[model].add(removed)
    algorithm = {"full-check-2009", "double-read"}
    fences = {"wakeup-fence", "waker-fence", "sleeper-fence"}
    assert broken["sc"] == algorithm
    assert broken["tso"] == algorithm | fences
    assert broken["weak"] == set(steps.BARRIERS)


@pytest.mark.heavy
def test_four_slots_and_five_entries() -> None:
    """The same in a larger ring, with ARM's rule, too."""
    for case in cases(4, 5, list(KEEPS), None):
        assert explored(case)[0].as_expected, case


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "entries"), [(2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2)])
def test_small_rings_are_as_predicted(slots: int, entries: int) -> None:
    """Also with too few entries to use a slot twice."""
    for case in cases(slots, entries, list(KEEPS), None):
        if case.protocol == "ring" and case.removed != "full-check-2009":
            assert explored(case)[0].as_expected, case


@pytest.mark.slow
def test_arm_spares_the_acquire_of_first_and_nothing_else() -> None:
    """There a store waits for the branches before it; the data word hangs on no branch."""
    for name, barrier in steps.BARRIERS.items():
        if barrier.keeps:
            case = Case(barrier.protocol, name, "arm", 2, 3)
            assert explored(case)[0].ok == (name == "acquire-first")


def test_a_shortest_witness(capsys: pytest.CaptureFixture[str]) -> None:
    """Two columns; what is early says what it came before."""
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "weak")
    assert status == 0
    lines = [line.strip() for line in out.splitlines()]
    start = lines.index("guest (producer)                                 VMM (consumer)")
    steps_shown = [line[:2] for line in lines[start + 1 :] if line[:2] in steps.STEPS]
    assert steps_shown == ["P3", "C1", "C2"]
    assert "=> entry 1 is not what was written" in lines


def test_a_model_that_needs_no_barrier_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """x86 keeps stores in order."""
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "tso")
    assert status == 0
    assert "as expected: tso always keeps store-store in order" in out


def test_a_prediction_that_does_not_hold_is_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that says another thing than the executions show."""
    monkeypatch.setitem(KEEPS, "arm", KEEPS["arm"] | {LOAD_STORE})
    wrong = steps.BARRIERS["release-last"]._replace(keeps=frozenset({LOAD_STORE}))
    monkeypatch.setitem(steps.BARRIERS, "release-last", wrong)
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "arm")
    assert status == 1
    assert out.endswith("NOT AS EXPECTED.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "hope"], "--remove hope: expected one of release-last, acquire-last, "),
        (["--model", "x87"], "--model x87: expected one of sc, tso, weak, arm"),
        (["--slots", "1"], "Invalid value for '--slots': 1 is not in the range"),
        (["--entries", "many"], "Invalid value for '--entries': 'many' is not a valid"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """One line, exit status 2."""
    status, out, said = litmus(capsys, *arguments)
    assert (status, out) == (2, "")
    assert said.startswith(message)
    assert "\n" not in said


def test_a_ring_that_is_too_large_is_refused() -> None:
    """Rather than take all the memory there is."""
    wanted = list(cases(3, 5, ["weak"], "acquire-last"))
    said = "--slots 3 --entries 5: more than 1,000 states without acquire-last under weak"
    with pytest.raises(BadInput, match=said):
        run.run(["weak"], wanted, lambda *_: None, most=1000)


def overruns(slots: int) -> bool:
    """True when an entry can be written into a full ring: tries all indices from every start."""
    seen = {(start, start, 0) for start in range(slots)}
    todo = list(seen)
    while todo:
        first, last, count = todo.pop()
        following = []
        if has_room_2009(first, last, slots):
            if count == slots - 1:
                return True
            following.append((first, (last + 1) % slots, count + 1))
        if count:
            following.append(((first + 1) % slots, last, count - 1))
        for state in following:
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return False


@pytest.mark.parametrize("slots", [*range(2, 40), 170])
def test_where_the_check_of_2009_overruns(slots: int) -> None:
    """The formula against all the indices that a drained ring can have; 170 is KVM's own size."""
    assert steps.overruns_2009(slots) == overruns(slots)
