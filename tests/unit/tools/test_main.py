"""Ctrl-C at the entry of the program."""

from __future__ import annotations

import signal
import subprocess
import sys

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
        raise RuntimeError("a bug")

    monkeypatch.setattr(program, "_run", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signals, "hold_handlers", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(RuntimeError, match="a bug"):
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
