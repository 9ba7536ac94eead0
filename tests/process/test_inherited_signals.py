"""Whatever masks, dispositions and limits of signals a command inherits, it gives its result."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.kvm_sides import needs_kvm
from helpers.qtest_peer import Peer
from helpers.tiers import every, some_heavy
from helpers.vmm_cli import Cold, one_line, run, until
from helpers.warm import PROGRAM

PREPARE = """\
import os, resource, signal, sys
how, *command = sys.argv[1:]
every = signal.valid_signals()
if how == "all blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
if how == "one blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGRTMIN])
if how == "SIGCHLD ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if how == "all ignored":
    for number in every - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
if how == "none pending":
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
os.execv(command[0], command)
"""
HOW = ["all blocked", "one blocked", "SIGCHLD ignored", "all ignored", "none pending"]
RUN = ["run", "g.py:main"]
COMMANDS = [
    RUN,
    ["replay", "boot", "--png", "none"],
    ["stress", "--seconds", "0.3"],
    ["litmus", "--slots", "2", "--entries", "1", "--model", "sc"],
    ["demo", "e1000", "--frames", "20"],
    ["demo", "vga", "--png", "none"],
    ["bench", "ring", "--quick"],
]
GUEST = "def main(vcpu):\n    vcpu.fill(0xa0000, 99, 1)\n"


def prepared(how: str) -> tuple[str, ...]:
    """The start of a command line that prepares signals for the rest of it."""
    return (sys.executable, "-c", PREPARE, how)


@some_heavy(
    "how, command",
    every(HOW, COMMANDS),
    lambda how, command: (
        command == RUN or (how == "all blocked" and command[0] in ("stress", "litmus"))
    ),
)
def test_a_command_gives_its_result(tmp_path: Path, how: str, command: list[str]) -> None:
    (tmp_path / "g.py").write_text(GUEST)
    done = run(*command, cwd=tmp_path, prefix=prepared(how))
    assert (done.returncode, done.stderr) == (0, "")


@some_heavy("how", every(HOW), lambda how: how in ("all blocked", "all ignored"))
def test_a_qtest_server_answers(how: str) -> None:
    command = [*prepared(how), PROGRAM, "qtest", "--device", "isa-vga"]
    with Peer(command, "--socket PATH") as peer:
        assert peer.ask_all(["outb 0x3c4 2", "outb 0x3c5 5", "inb 0x3c5"])[-1] == "OK 0x0005"
        status, _, err = peer.end()
        assert (status, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_inherited_blocked_ends_a_command(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "g.py").write_text(
        "def main(vcpu):\n    open('started', 'w')\n    while True: pass"
    )
    with Cold("run", "g.py:main", cwd=tmp_path, prefix=prepared("all blocked")) as program:
        until((tmp_path / "started").exists)
        os.kill(program.pid, number)
        status, _, err = program.end()
        program.nothing_left()
    assert status == (130 if number == signal.SIGINT else -number)
    assert err.startswith("coalesced: interrupted: run 1 of 3: ")


@needs_kvm
def test_a_limit_that_leaves_kvm_no_timer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "g.py").write_text(GUEST)
    arguments = ("run", "g.py:main", "--accel", "kvm")
    done = run(*arguments, cwd=tmp_path, prefix=prepared("none pending"))
    assert one_line(done, 1) == (
        "no timer to leave the guest by: Resource temporarily unavailable (the limit of pending "
        "signals, 'ulimit -i', is reached)"
    )


@pytest.mark.parametrize("how", HOW)
def test_the_ways_are_what_they_are_called(how: str) -> None:
    """Otherwise the tests above would prove nothing."""
    code = (
        "import resource, signal; chld, rt = signal.SIGCHLD, signal.SIGRTMIN; "
        "print(rt in signal.pthread_sigmask(signal.SIG_BLOCK, []), "
        "signal.getsignal(chld) is signal.SIG_IGN, signal.getsignal(rt) is signal.SIG_IGN, "
        "resource.getrlimit(resource.RLIMIT_SIGPENDING)[0] == 0)"
    )
    done = subprocess.run(
        [*prepared(how), sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        str(how in ways)
        for ways in (
            ("all blocked", "one blocked"),
            ("SIGCHLD ignored", "all ignored"),
            ("all ignored",),
            ("none pending",),
        )
    ]
    assert resource.getrlimit(resource.RLIMIT_SIGPENDING)[0] != 0
    assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN
