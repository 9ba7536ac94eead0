"""Completion in a shell: the script that the program prints, and the answers to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.warm import PROGRAM


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("coalesced de", ["demo"]), ("coalesced demo vga --wa", ["--wait"])],
)
def test_a_shell_is_offered_what_fits(typed: str, offered: list[str], tmp_path: Path) -> None:
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run(
        [PROGRAM],
        cwd=tmp_path,
        env={**os.environ, **asked, "_COALESCED_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == offered


def test_bash_gets_a_script_that_asks_the_program(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    done = subprocess.run(
        [bash, "-c", f'"{PROGRAM}" --install-completion; exit $?'],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "completion installed" in done.stdout
    assert (
        "_COALESCED_COMPLETE=complete_bash"
        in next((tmp_path / ".bash_completions").iterdir()).read_text()
    )
