"""The suite itself: what the processes that tests start inherit from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOWN = """\
import signal

def test_shown():
    print("SIGINT:", signal.getsignal(signal.SIGINT).__name__)
"""


@pytest.mark.slow
def test_a_suite_started_with_ctrl_c_ignored_starts_processes_that_take_it(tmp_path: Path) -> None:
    """Under `nohup ... &` a shell has SIGINT ignored."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_child.py").write_text(SHOWN)
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "-", sys.executable, "-m", "pytest", "-qs",
         "-p", "no:cacheprovider", "test_child.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert "SIGINT: default_int_handler" in done.stdout, done.stdout
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
