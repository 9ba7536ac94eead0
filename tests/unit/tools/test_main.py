"""What the entry of the program makes of Ctrl-C."""

from __future__ import annotations

import signal
import sys

import pytest

from coalesced.tools import main


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
    monkeypatch.setattr(main, "_run", _import_interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "coalesced: interrupted\n"


def test_another_error_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: list[str]) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(main, "_run", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(RuntimeError, match="a bug"):
        main.main()
