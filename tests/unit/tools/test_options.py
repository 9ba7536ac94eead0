"""Options are checked before anything is started; what a run saved is counted rightly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from coalesced.tools import early
from coalesced.tools.commands import app as cli
from coalesced.tools.commands.options import (
    Accel,
    Cpus,
    RunOptions,
    Wait,
    check_writable,
    run_options,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import report
from coalesced.tools.runs.outputs import trace_file


def options(ring_pages: int = 1, staleness: str = "off", trace: Path | None = None) -> RunOptions:
    return run_options(
        Accel.process, ring_pages, Wait.block, staleness, False, Cpus.anywhere, trace
    )


@pytest.mark.parametrize("pages", [1, 2, 4096])
def test_ring_pages_in_range_are_taken(pages: int) -> None:
    assert options(pages).ring_pages == pages


@pytest.mark.parametrize("pages", [0, -1, 4097, 1000000])
def test_ring_pages_out_of_range_are_refused(pages: int) -> None:
    with pytest.raises(BadInput, match=f"--ring-pages {pages}: expected 1 to 4096 pages"):
        options(pages)


@pytest.mark.parametrize(
    ("text", "seconds"), [("off", None), ("10", 0.01), ("0.5", 0.0005), ("60000", 60.0)]
)
def test_staleness_is_given_in_milliseconds(text: str, seconds: float | None) -> None:
    staleness = options(staleness=text).staleness
    assert staleness == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["0", "-1", "60001", "nan", "inf", "", "x", "1ms", "OFF"])
def test_other_stalenesses_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"^--staleness {text}: expected above 0 to 60000"):
        options(staleness=text)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_writable("--png", tmp_path / "new.png")
    (tmp_path / "old.png").touch()
    check_writable("--png", tmp_path / "old.png")
    with pytest.raises(BadInput, match="there is no folder"):
        check_writable("--png", tmp_path / "no" / "new.png")
    with pytest.raises(BadInput, match="expected a file, it is a folder"):
        check_writable("--png", tmp_path)
    with pytest.raises(BadInput, match=r"--trace .*: there is no folder"):
        options(trace=tmp_path / "no" / "t")


def test_a_trace_on_a_full_disk_is_bad_input_and_other_errors_stay_what_they_are() -> None:
    def fill() -> None:
        with trace_file(Path("/dev/full")) as file:
            assert file is not None
            file.write("line\n")

    with pytest.raises(BadInput, match="--trace /dev/full: No space left on device"):
        fill()
    with pytest.raises(PermissionError), trace_file(Path("/dev/null")):
        raise PermissionError
    with trace_file(None) as file:
        assert file is None


# --- the command line in this process ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "No such option"),
        (["nope"], "No such command 'nope'"),
        (["demo"], "Missing command"),
        (["demo", "nope"], "No such command 'nope'"),
        (["demo", "vga", "extra"], "Got unexpected extra argument"),
        (["demo", "vga", "--ring-pages"], "requires an argument"),
        (["run"], "Missing argument 'GUEST'"),
        (["replay"], "Missing argument 'TRACE'"),
        (["demo", "vga", "--ring-pages", "abc"], "Invalid value for '--ring-pages': 'abc'"),
        (["demo", "vga", "--ring-pages", "1.5"], "Invalid value for '--ring-pages': '1.5'"),
        (["demo", "vga", "--ring-pages", "-1"], "--ring-pages -1: expected 1 to 4096 pages"),
        (["replay", "boot", "--ring-pages", "0"], "--ring-pages 0: expected 1 to 4096 pages"),
        (["demo", "vga", "--wait", "x"], "Invalid value for '--wait'"),
        (["demo", "vga", "--cpus", "x"], "Invalid value for '--cpus'"),
        (["demo", "vga", "--accel", "x"], "Invalid value for '--accel'"),
        (["run", "g.py:f", "--staleness", "-1"], "--staleness -1: expected above 0"),
        (["run", "g.py:f", "--png", "nowhere/s.png"], "there is no folder nowhere"),
        (["demo", "vga", "--png", "."], "expected a file, it is a folder"),
        (["demo", "vga", "--image", "none.png"], "--image none.png: no such file"),
        (["replay", "none.trace"], "trace none.trace: No such file or directory"),
        *(
            (["run", "--accel", "direct", guest], message)
            for guest, message in (
                ("nothing.py:main", "nothing.py: no such file"),
                ("good.py:nobody", "good.py: it has no function 'nobody'"),
                ("good.py:no_function", "'no_function' is no function"),
                ("good.py", "guest 'good.py': expected FILE.py:FUNCTION or module:function"),
                ("no_such_module:main", "ModuleNotFoundError: No module named"),
                ("syntax.py:main", "syntax.py: line 2: SyntaxError: "),
                ("fails.py:main", "fails.py: line 1: ZeroDivisionError: division by zero"),
                ("leaves.py:main", "leaves.py: line 1: SystemExit: 3"),
            )
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.py").write_text("no_function = 5\n")
    (tmp_path / "syntax.py").write_text("def main(vcpu):\n    return (\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    said: list[str] = []
    try:
        assert cli.run(arguments, said.append) == 2
    finally:
        early.close()
    assert len(said) == 1
    assert message in said[0]
    assert "\n" not in said[0]


# --- the early guest process ---


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["demo", "vga"], True),
        (["run", "g.py:f"], True),
        (["replay", "boot"], True),
        (["info"], False),
        (["bench", "ring"], False),
        ([], False),
        (["--help"], False),
        (["demo", "vga", "--help"], False),
        (["demo", "vga", "--accel", "direct"], False),
        (["demo", "vga", "--accel=direct"], False),
    ],
)
def test_a_guest_process_is_started_early_for_commands_that_want_one(
    arguments: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeProcess:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    made: list[FakeProcess] = []

    def make() -> FakeProcess:
        made.append(FakeProcess())
        return made[-1]

    monkeypatch.setattr(early, "GuestProcess", make)
    early.start(arguments)
    assert len(made) == wanted
    early.close()
    early.close()
    assert [process.closed for process in made] == [1] * wanted


def test_the_early_process_is_given_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(early, "GuestProcess", make)
    early.start(["demo", "vga"])
    assert early.take() is made[0]
    assert early.take() is made[1]
    early.close()  # nothing waits any more


# --- what a run saved ---


def entry(
    accel: str, coalescing: bool, exits: int = 10, seconds: float = 1.0, state: str = "s"
) -> report.Run:
    return {
        "accel": accel,
        "coalescing": coalescing,
        "exits": exits,
        "seconds": seconds,
        "state": state,
    }


def test_savings_compare_the_coalesced_run_with_the_uncoalesced_one() -> None:
    runs = [
        entry("process", True, 25, 2.0),
        entry("process", False, 100, 5.0),
        entry("direct", False, 1, 0.1),
    ]
    saved = report.savings(runs)
    assert saved == {"exits": 0.75, "time": 2.5}
    assert report.savings(runs[::-1]) == saved


@pytest.mark.parametrize("left_out", [0, 1])
def test_without_both_runs_there_is_no_saving(left_out: int) -> None:
    runs = [entry("process", True), entry("process", False), entry("direct", False)]
    del runs[left_out]
    assert report.savings(runs) == {"exits": None, "time": None}


def test_nothing_to_divide_by_is_no_saving() -> None:
    runs = [entry("process", True, 0, 0.0), entry("process", False, 0, 1.0)]
    assert report.savings(runs) == {"exits": None, "time": None}
    more = report.savings([entry("process", True, 20), entry("process", False, 10)])
    assert more["exits"] is not None
    assert math.isclose(more["exits"], -1.0)


def test_runs_are_identical_when_every_state_is_the_same() -> None:
    assert report.identical([entry("process", True), entry("direct", False)])
    assert not report.identical([entry("process", True), entry("direct", False, state="t")])
