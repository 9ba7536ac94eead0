"""The tests themselves, started with signals ignored or blocked, as shells and nohup start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PREPARE = """if True:
    import os, signal, sys
    how, *command = sys.argv[1:]
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD]
    if how == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    else:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
    os.execv(command[0], command)
"""


@pytest.mark.parametrize("how", [pytest.param("ignored", marks=pytest.mark.heavy), "blocked"])
def test_commands_under_test_begin_with_default_signals(how: str) -> None:
    """Tests that end a program by SIGHUP and by Ctrl-C pass."""
    chosen = TESTS / "process" / "test_netdev_cli.py"
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, how, *pytest_, str(chosen), "-k", "socket and dgram"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "3 passed" in done.stdout
