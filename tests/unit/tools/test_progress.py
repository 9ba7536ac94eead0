"""The progress bar: on a terminal only, with the rate."""

from __future__ import annotations

import io

import pytest

from coalesced.tools.runs import progress


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "percent"), [(4e6, "50%"), (None, "")])
def test_a_terminal_shows_the_rate(
    monkeypatch: pytest.MonkeyPatch, total: float | None, percent: str
) -> None:
    """And how much is done, where anybody knows how much there is."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "INTERVAL", 0)
    with progress.shown(total) as bar:
        bar.show_rate("reading", 2e6, "MB", 1e6)
        shown = terminal.getvalue()
    assert "reading, " in shown
    assert " MB/s" in shown
    assert percent in shown


def test_nothing_is_shown_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.shown(1) as bar:
        bar.show_rate("reading", 1, "MB", 1e6)
    assert capfd.readouterr().err == ""
