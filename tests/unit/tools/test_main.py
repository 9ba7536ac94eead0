"""Errors and Ctrl-C at the entry of the program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coalesced.hv import signals
from coalesced.tools import main, program
from helpers.command_line import status_of


class _Interrupting:
    """An attribute that Ctrl-C hits while its class is made, as in an import."""

    def __set_name__(self, owner: type, name: str) -> None:
        raise KeyboardInterrupt


def _import_interrupted(_arguments: list[str]) -> int:
    type("Imported", (), {"attribute": _Interrupting()})
    return 0


def test_an_interrupt_that_python_wrapped_is_still_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "_run", _import_interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signals, "hold_handlers", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "coalesced: interrupted\n"


def test_another_error_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: list[str]) -> int:
        return int(json.loads("no JSON"))

    monkeypatch.setattr(program, "_run", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signals, "hold_handlers", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(json.JSONDecodeError):
        main.main()


FINDER = """
import signal, sys
from coalesced.tools import main

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == NAME:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
main.main()
"""


@pytest.mark.parametrize("name", ["program", "termination", "commands.app", "commands.info"])
def test_ctrl_c_during_an_import_is_one_line(name: str) -> None:
    code = FINDER.replace("NAME", repr(f"coalesced.tools.{name}"))
    done = subprocess.run(
        [sys.executable, "-c", code, "info"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "coalesced: interrupted\n"


def test_a_refused_command_line_leaves_signals_as_they_are() -> None:
    """Else whatever this process starts afterwards is deaf to Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    said: list[str] = []
    assert status_of(["litmus", "--slots", "0"], said.append) == 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


RAISING = """
from coalesced.tools import main
from coalesced.tools.commands import app
from raising import raises_repeatedly

app.run = raises_repeatedly
main.main()
"""
REPEATEDLY = """\
import signal

class Given(Exception):
    pass

def give_up(*_):
    raise Given("late")

def raises_repeatedly(_arguments):
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, {first}, 0.00005)
    for _ in range({steps}):
        pass
    return 0
"""


@pytest.mark.parametrize(
    ("first", "steps", "times"),
    [
        ("0.0001", 10**9, 2),
        pytest.param("0.0001", 10**9, 8, marks=pytest.mark.heavy),
        pytest.param("0.003", 40_000, 8, marks=pytest.mark.heavy),
    ],
)
def test_a_handler_that_raises_repeatedly_ends_the_program_with_one_line(
    tmp_path: Path, first: str, steps: int, times: int
) -> None:
    """In the middle of its work, or where that has just ended."""
    (tmp_path / "raising.py").write_text(REPEATEDLY.format(first=first, steps=steps))
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", RAISING, "info"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        line = f"coalesced: {tmp_path / 'raising.py'}:7: Given: late\n"
        assert (done.returncode, done.stderr) in ((1, line), (0, ""))
