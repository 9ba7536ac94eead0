"""Ctrl-C at any moment, and either process killed: no traceback, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers.vmm_cli import Running, alive, until

GUEST = """\
import pathlib

def main(vcpu):
    pathlib.Path("started").touch()
    while True:
        vcpu.store8(0xa0000, 1)

def silent(vcpu):
    pathlib.Path("started").touch()
    while True:
        pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text(GUEST)
    return tmp_path


def interrupt_at(folder: Path, arguments: list[str], span: float, seed: int) -> None:
    """Ctrl-C at a random instant of the first `span` seconds after the guest process is there."""
    instant = random.Random(seed).uniform(0, span)
    with Running(*arguments, cwd=folder) as program:
        program.wait_for_guest()
        time.sleep(instant)  # the instant itself is what is random
        ended = program.process.poll() is not None
        if not ended:
            program.interrupt()
        status, out, err = program.end()
        where = f"seed {seed}, {instant:.3f} s after the guest's start: {err}"
        assert "Traceback" not in err, where
        assert "Exception ignored" not in err, where
        assert status == 130 or (status == 0 and out.rstrip().endswith("}")), (status, where)
        program.nothing_left()


MOMENTS = int(os.environ.get("CTRL_C_MOMENTS", "40"))  # of each command, in the heavy test

CASES = [
    (["demo", "vga", "--json"], 1.5),
    (["demo", "vga", "--wait", "block", "--json"], 1.5),
    (["replay", "boot", "--json"], 1.2),
    (["run", "guest.py:main", "--json"], 0.8),
    (["run", "guest.py:silent", "--json"], 0.8),
    (["run", "guest.py:main", "--accel", "process", "--staleness", "1", "--json"], 0.8),
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("arguments", "span"), CASES[:3:2], ids=["demo", "replay"])
def test_ctrl_c_ends_both_processes_quietly(
    folder: Path, arguments: list[str], span: float, seed: int
) -> None:
    interrupt_at(folder, arguments, span, seed)


@pytest.mark.heavy
@pytest.mark.parametrize(("arguments", "span"), CASES, ids=[" ".join(c) for c, _ in CASES])
def test_ctrl_c_at_many_moments(folder: Path, arguments: list[str], span: float) -> None:
    for seed in range(100, 100 + MOMENTS):
        interrupt_at(folder, arguments, span, seed)


def started(program: Running, folder: Path) -> None:
    """Wait until the guest runs."""
    guest = program.wait_for_guest()
    until(lambda: (folder / "started").exists() or not alive(guest))
    program.look()


@pytest.mark.parametrize("function", ["main", "silent"])
def test_ctrl_c_of_a_guest_that_never_ends(folder: Path, function: str) -> None:
    with Running("run", f"guest.py:{function}", "--json", cwd=folder) as program:
        started(program, folder)
        program.interrupt()
        status, out, err = program.end(2)
        assert status == 130
        assert out == ""
        assert "Traceback" not in err
        program.nothing_left()


@pytest.mark.parametrize(
    ("function", "wait"),
    [("main", "block"), ("main", "adaptive"), ("main", "poll"), ("silent", "adaptive")],
)
def test_a_killed_guest_process_is_told_within_a_second(
    folder: Path, function: str, wait: str
) -> None:
    with Running("run", f"guest.py:{function}", "--wait", wait, cwd=folder) as program:
        started(program, folder)
        before = time.monotonic()
        os.kill(program.guests[-1].pid, signal.SIGKILL)
        status, out, err = program.end(5)
        assert time.monotonic() - before < 1
        assert (status, out) == (1, "")
        assert err == "coalesced: the guest process ended: killed by SIGKILL\n"
        program.nothing_left()


@pytest.mark.parametrize("function", ["main", "silent"])
def test_a_killed_program_takes_its_guest_process_along(folder: Path, function: str) -> None:
    with Running("run", f"guest.py:{function}", cwd=folder) as program:
        started(program, folder)
        os.kill(program.pid, signal.SIGKILL)
        status, _, err = program.end(5)
        assert (status, err) == (-signal.SIGKILL, "")
        program.nothing_left()
