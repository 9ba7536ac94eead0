"""`coalesced litmus`: what the table of steps predicts is what the explorer finds."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coalesced.tools.litmus import steps
from coalesced.tools.litmus.cases import cases, outcome
from coalesced.tools.litmus.models import LOAD_STORE, MODELS
from helpers.command_line import status_of


def litmus(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, and what is said of an error."""
    said: list[str] = []
    status = status_of(["litmus", *arguments], said.append)
    return status, capsys.readouterr().out, "\n".join(said)


@pytest.mark.heavy
def test_each_barrier_that_a_model_needs_has_a_witness(capsys: pytest.CaptureFixture[str]) -> None:
    """Every execution in the four models: the prediction of the step table comes true."""
    status, out, _ = litmus(capsys, "--json")
    report = json.loads(out)
    assert status == 0
    assert report["ok"]
    assert report["models"] == ["sc", "tso", "rc11", "weak"]
    found = {(case["removed"], case["protocol"], case["model"]): case for case in report["cases"]}
    assert len(found) == len(report["cases"]) == 4 * (len(steps.PROTOCOLS) + len(steps.BARRIERS))
    broken: dict[str, set[str]] = {model: set() for model in report["models"]}
    for (removed, _, model), case in found.items():
        assert case["ok"] == case["expected"] == (case["wrong"] is None)
        assert case["executions"] > 0 or not case["ok"]
        assert (case["witness"] is None) == case["ok"]
        if removed is None:
            assert case["ok"]
        elif not case["ok"]:
            broken[model].add(removed)
    algorithm = {"full-check-2009", "double-read", "rule-12", "rule-13"}
    fences = {
        *("wakeup-fence", "waker-fence", "sleeper-fence", "posted-fence"),
        *("own-ring-fence", "announce-fence", "answer-fence"),
    }
    assert broken["sc"] == algorithm
    assert broken["tso"] == algorithm | fences
    assert broken["rc11"] == set(steps.BARRIERS) - {"acquire-first", "release-first"}
    assert broken["weak"] == set(steps.BARRIERS) - {"acquire-first"}


@pytest.mark.heavy
@pytest.mark.parametrize(("slots", "entries"), [(2, 1), (2, 2), (2, 4), (3, 2), (3, 3), (4, 5)])
def test_other_rings_are_as_predicted(slots: int, entries: int) -> None:
    """Also with too few entries to use a slot twice."""
    for case in cases(slots, entries, list(MODELS), None):
        if case.protocol == "ring":
            assert outcome(case).as_expected, case


@pytest.mark.slow
def test_a_witness_has_only_what_the_failing_thread_rests_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A column for each thread: the first entry, and a consumer that sees none of its bytes."""
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "rc11")
    assert status == 0
    assert re.search(r"^    guest \(producer\) +VMM \(consumer\)$", out, re.MULTILINE)
    assert re.findall(r"^ +(\d+) ring\.[ch]:\d+ ", out, re.MULTILINE) == [str(n) for n in range(12)]
    assert re.search(r"^ +\| uint32_t last =$", out, re.MULTILINE)  # the text of a line
    assert "=> ring.c:" in out


@pytest.mark.slow
def test_a_wrong_execution_is_drawn_with_a_column_for_each_thread(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each step of the witness has a box, each load of a store an arrow."""
    picture = tmp_path / "witness.svg"
    status, out, _ = litmus(
        capsys, "--remove", "release-last", "--model", "rc11", "--svg", str(picture), "--json"
    )
    assert status == 0
    (case,) = json.loads(out)["cases"]
    root = ElementTree.parse(picture).getroot()
    space = "{http://www.w3.org/2000/svg}"
    columns = Counter(each.get("x") for each in root.iter(f"{space}rect") if each.get("x"))
    assert sorted(columns.values()) == sorted(Counter(e["thread"] for e in case["events"]).values())
    arrows = root.findall(f"{space}path")
    assert len(arrows) == sum(event["from"] is not None for event in case["events"])
    texts = [each.text for each in root.iter(f"{space}text")]
    assert "VMM (consumer)" in texts
    assert any(text and case["wrong"] in text for text in texts)


@pytest.mark.slow
def test_without_a_wrong_execution_there_is_nothing_to_draw(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "witness.svg"
    arguments = ["--remove", "release-last", "--model", "sc", "--svg", str(picture)]
    assert status_of(["litmus", *arguments], print) == 0
    assert not picture.exists()
    assert "nothing to draw; no execution is wrong" in capsys.readouterr().err


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of the library
def test_a_cluster_gives_the_same_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    arguments = ["--slots", "2", "--entries", "3", "--model", "rc11", "--json"]
    _, here, _ = litmus(capsys, *arguments)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        status, there, said = litmus(capsys, *arguments, "--scheduler", cluster.scheduler_address)
    assert (status, said) == (0, "")
    assert json.loads(there) == json.loads(here)


@pytest.mark.slow
def test_a_model_that_needs_no_barrier_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """x86 keeps stores in order."""
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "tso")
    assert status == 0
    assert "as expected: tso keeps two stores in order" in out


@pytest.mark.slow
def test_a_prediction_that_does_not_hold_is_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that says another thing than the executions show."""
    wrong = steps.BARRIERS["release-last"]._replace(keeps=frozenset({LOAD_STORE}))
    monkeypatch.setitem(steps.BARRIERS, "release-last", wrong)
    status, out, _ = litmus(capsys, "--remove", "release-last", "--model", "rc11")
    assert status == 1
    assert out.endswith("NOT AS EXPECTED.\n")


def test_without_a_compiler_the_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    status, out, said = litmus(capsys, "--slots", "8", "--model", "sc")
    assert (status, out) == (2, "")
    assert said.startswith("no-such-compiler: no C compiler found, which litmus needs; install gcc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "hope"], "--remove hope: expected one of release-last, acquire-last, "),
        (["--model", "x87"], "--model x87: expected one of sc, tso, rc11, weak"),
        (["--define", "A"], "--define needs a FILE"),
        (["--matrix", "--model", "sc"], "--matrix cannot be used with --remove or --model"),
        (["a.c", "--remove", "hope"], "FILE cannot be used with --remove, --matrix or --scheduler"),
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


def overruns(slots: int) -> bool:
    """True when an entry can be written into a full ring: tries all indices from every start."""
    seen = {(start, start, 0) for start in range(slots)}
    todo = list(seen)
    while todo:
        first, last, count = todo.pop()
        following = []
        if (first - last - 1) % 2**32 % slots:
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
