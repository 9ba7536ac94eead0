"""`make` on a machine that lacks something, and with a virtual environment that is not whole."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE = ".venv/.made"

# Debian without python3-venv: the module venv is there, ensurepip is not.
WITHOUT_ENSUREPIP = """#!/bin/sh
exec {python} -c '
import runpy, sys
sys.modules["ensurepip"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the files that `make` needs to build its virtual environment."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    (tmp_path / ".ci").mkdir()
    for name in ("Makefile", "pyproject.toml", "setup.py", ".ci/prerequisites.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(
    checkout: Path, *arguments: str, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"PYTHON={python}", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_missing_package_is_named_and_nothing_half_made_stays(checkout: Path) -> None:
    python = checkout / "python"
    python.write_text(WITHOUT_ENSUREPIP.format(python=sys.executable))
    python.chmod(0o755)
    done = make(checkout, "demo", python=str(python))
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert said == ["missing: the module ensurepip (on Debian: apt install python3-venv)"]
    assert not (checkout / ".venv").exists()


@pytest.mark.heavy
def test_an_environment_that_is_not_whole_is_made_anew(checkout: Path) -> None:
    """Without pip, as Debian leaves it; without its stamp; moved to another folder."""

    def is_whole(folder: Path = checkout) -> bool:
        return make(folder, "--question", MADE).returncode == 0

    binary = checkout / ".venv" / "bin" / "python"
    binary.parent.mkdir(parents=True)
    binary.symlink_to(sys.executable)
    stray = checkout / ".venv" / "stray"
    stray.touch()
    assert make(checkout, MADE).returncode == 0
    assert not stray.exists()
    assert is_whole()

    elsewhere = checkout / "elsewhere"
    shutil.copytree(checkout, elsewhere, symlinks=True)
    assert not is_whole(elsewhere), "its programs name the folder that they were made in"
    (checkout / MADE).unlink()
    assert not is_whole()
    (checkout / MADE).touch()
    (binary.parent / "pip").unlink()
    assert not is_whole()


@pytest.mark.heavy
def test_a_test_that_hangs_ends_the_run_of_make_test_and_shows_where(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    (line,) = (
        each for each in make(ROOT, "--dry-run", "test").stdout.splitlines() if "-m pytest" in each
    )
    _, *options = shlex.split(line)
    options = options[: options.index("not heavy") - 1]
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfaulthandler_timeout = 2\nfaulthandler_exit_on_timeout = true\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import time\n\ndef test_it():\n    time.sleep(1000)\n\ndef test_rest():\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode != 0
    assert 'test_it.py", line 4 in test_it' in done.stderr
    assert "crashed while running 'test_it.py::test_it'" in done.stdout
