"""Ctrl-C at any moment, and either process killed: no traceback, nothing left behind."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from helpers.tiers import every, some_heavy
from helpers.vmm_cli import Cold, Running, alive, until

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

def once(vcpu):
    vcpu.fill(0xa0000, 7, 1)
    if pathlib.Path("once").exists():
        pathlib.Path("again").touch()
        silent(vcpu)
    pathlib.Path("once").touch()

def several(vcpu):
    if vcpu.index == 0:
        main(vcpu)
    if vcpu.index == 1:
        while True:
            vcpu.store8(0xa0000, 2)
            pathlib.Path("stored").touch()
    pathlib.Path("ended").touch()
"""
LINES = {"main": range(4, 7), "silent": range(9, 12), "several": range(24, 27)}  # of GUEST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text(GUEST)
    return tmp_path


def interrupt_at(folder: Path, arguments: list[str], span: float, seed: int) -> None:
    """Ctrl-C at a random instant of the first `span` seconds after the guest process is there."""
    instant = random.Random(seed).uniform(0, span)
    with Cold(*arguments, cwd=folder) as program:
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


@pytest.mark.parametrize(("arguments", "span"), CASES[:3:2], ids=["demo", "replay"])
def test_ctrl_c_ends_both_processes_quietly(
    folder: Path, arguments: list[str], span: float
) -> None:
    interrupt_at(folder, arguments, span, 1)


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


@some_heavy(
    "function, accel",
    every(["main", "silent"], ["process", "direct"]),
    lambda function, accel: (function == "main") == (accel == "process"),
)
def test_ctrl_c_of_a_guest_that_never_ends_tells_how_far_it_came(
    folder: Path, function: str, accel: str
) -> None:
    arguments = ("run", f"guest.py:{function}", "--json", "--accel", accel)
    with Cold(*arguments, cwd=folder) as program:
        until(lambda: (folder / "started").exists() or program.process.poll() is not None)
        program.interrupt()
        status, out, err = program.end()
        program.nothing_left()
    assert (status, out) == (130, "")
    told = re.fullmatch(
        r"coalesced: interrupted: run 1 of \d: ([\d,]+) device writes, [\d,]+ of them queued, "
        rf"[\d,]+ exits; the guest was at {folder}/guest.py:(\d+)\n",
        err,
    )
    assert told is not None, err
    assert int(told[2]) in LINES[function]
    assert function == "main" or told[1] == "0"


def test_ctrl_c_of_several_vcpus_tells_where_each_was(folder: Path) -> None:
    arguments = ("run", "guest.py:several", "--vcpus", "3")
    with Running(*arguments, cwd=folder) as program:
        names = ("started", "stored", "ended")
        until(
            lambda: (
                all((folder / name).exists() for name in names)
                or program.process.poll() is not None
            )
        )
        for _ in range(20):  # vCPUs share an interpreter: the one that has to end gets its turns
            (folder / "stored").unlink(missing_ok=True)
            until(lambda: (folder / "stored").exists() or program.process.poll() is not None)
        program.interrupt()
        status, _, err = program.end()
        program.nothing_left()
    assert status == 130
    place = rf"{folder}/guest.py:(\d+)"
    told = re.search(
        rf"; the guest was at {place} \(vCPU 0\), {place} \(vCPU 1\), its end \(vCPU 2\)\n", err
    )
    assert told is not None, err
    assert int(told[1]) in LINES["main"]
    assert int(told[2]) in LINES["several"]


def test_ctrl_c_tells_what_the_complete_runs_counted(folder: Path) -> None:
    """The guest ends at once in the first run and never in the second."""
    with Running("run", "guest.py:once", cwd=folder) as program:
        until(lambda: (folder / "again").exists() or program.process.poll() is not None)
        program.interrupt()
        status, _, err = program.end()
    assert status == 130
    assert err.startswith("coalesced: interrupted: run 2 of 3: ")
    assert "; process, coalesced: 7 device writes, 7 of them queued, 1 exits, " in err


@pytest.mark.parametrize(
    ("arguments", "known", "shown"),
    [
        (["stress", "--seed", "7", "--seconds", "60"], r"[\d,]+ entries, .* seed 7", "seed 7"),
        (["stress", "--seed", "7", "--seconds", "60", "--json"], ".* seed 7", '"complete": false'),
        (
            ["stress", "--kill", "both", "--times", "9999"],
            "[\\d,]+ entries, [\\d,]+ kills, .*",
            "recovered",
        ),
        (["litmus", "--slots", "4", "--entries", "12"], r"\d+ cases explored", ""),
        (["litmus", "--slots", "4", "--entries", "12", "--json"], ".* explored", '"cases": ['),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_ctrl_c_of_a_command_without_a_guest_tells_what_is_known(
    tmp_path: Path, arguments: list[str], known: str, shown: str
) -> None:
    with Cold(*arguments, cwd=tmp_path) as program:
        until(lambda: at_work(program.pid))
        program.interrupt()
        status, out, err = program.end()
    assert status == 130
    assert re.fullmatch(f"coalesced: interrupted: {known}\n", err), err
    assert shown in out


def at_work(pid: int) -> bool:
    """Whether a command has started its processes, or its long computation."""
    try:
        process = psutil.Process(pid)
        return bool(process.children()) or process.cpu_times().user > 1.5
    except psutil.NoSuchProcess:
        return True  # it has ended, which the test tells


@some_heavy(
    "function, wait",
    [("main", "block"), ("main", "adaptive"), ("main", "poll"), ("silent", "adaptive")],
    lambda _, wait: wait == "adaptive",
)
def test_a_killed_guest_process_is_told(folder: Path, function: str, wait: str) -> None:
    with Running("run", f"guest.py:{function}", "--wait", wait, cwd=folder) as program:
        started(program, folder)
        os.kill(program.guests[-1].pid, signal.SIGKILL)
        status, out, err = program.end()
        assert (status, out) == (1, "")
        assert err == "coalesced: the guest process ended: killed by SIGKILL\n"
        program.nothing_left()


@pytest.mark.parametrize("function", ["main", "silent"])
def test_a_killed_program_takes_its_guest_process_along(folder: Path, function: str) -> None:
    with Running("run", f"guest.py:{function}", cwd=folder) as program:
        started(program, folder)
        os.kill(program.pid, signal.SIGKILL)
        status, _, err = program.end()
        assert (status, err) == (-signal.SIGKILL, "")
        program.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_run_leaves_its_trace_whole_under_its_name(
    folder: Path, number: signal.Signals
) -> None:
    arguments = ("run", "guest.py:main", "--no-coalesce", "--trace", "out.trace")
    with Running(*arguments, cwd=folder) as program:
        program.wait_for_guest()
        until(lambda: bool(list(folder.glob(".out.trace.*.part"))))
        os.kill(program.pid, number)
        status, _, err = program.end()
        program.nothing_left()
    assert status == -number, err
    assert sorted(folder.glob(".*")) == []
    lines = (folder / "out.trace").read_text().splitlines()
    assert lines
    assert len({len(line.split()) for line in lines[1:]}) == 1
