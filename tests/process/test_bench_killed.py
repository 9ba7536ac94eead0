"""`coalesced bench`, ended by a signal or robbed of a process: no name, no process is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from helpers.orphans import orphans_are_ours  # noqa: F401 - a fixture of each test
from helpers.shared_names import left_since, names
from helpers.vmm_cli import LIMIT, Cold, alive, until


@pytest.fixture(autouse=True)
def _temporary_files_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


@contextmanager
def benchmark(tmp_path: Path, *arguments: str) -> Iterator[Cold]:
    """A running benchmark; afterwards neither a process nor a name of it is there."""
    temporary = tmp_path / "tmp"
    before, children = names(), set(psutil.Process().children())
    with Cold("bench", *arguments, cwd=tmp_path) as program:
        yield program
        err = program.end()[2]
        # The resource tracker of multiprocessing, started again, does not know what it is asked.
        # A process that it starts finds its pipe closed when this program has just been killed.
        killed = program.process.returncode == -signal.SIGKILL and "in spawn_main" in err
        assert "Traceback" not in err or "resource_tracker: process died" in err or killed

    def orphans() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child not in children]

    until(lambda: not any(map(alive, orphans())))
    for child in orphans():
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
    until(lambda: left_since(before) == set() and list(temporary.iterdir()) == [])


def processes(program: Cold, *words: str) -> list[psutil.Process]:
    """Those of the program in whose command line a word stands."""
    found = []
    for child in psutil.Process(program.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any(word in " ".join(child.cmdline()) for word in words):
                found.append(child)
    return found


def peers_are_there(program: Cold) -> bool:
    """Whether `bench ring` has made its channels: a queue, shared memory, semaphores."""
    return len(processes(program, "multiprocessing.spawn")) >= 5


heavy = pytest.mark.heavy


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=heavy),
        pytest.param(signal.SIGHUP, marks=heavy),
        pytest.param(signal.SIGINT, marks=heavy),
    ],
)
def test_a_signal_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Signals that can be caught, and SIGKILL."""
    with benchmark(tmp_path, "ring", "--json") as program:
        until(lambda: peers_are_there(program))
        os.kill(program.pid, number)
        assert program.process.wait(LIMIT) == (130 if number == signal.SIGINT else -number)


@pytest.mark.parametrize("which", [pytest.param(0, marks=heavy), 2])
def test_a_killed_peer_ends_the_benchmark(tmp_path: Path, which: int) -> None:
    """One line says so. Most channels would wait for the process forever."""
    with benchmark(tmp_path, "ring", "--json") as program:
        until(lambda: peers_are_there(program))
        victim = processes(program, "multiprocessing.spawn")[which].pid
        os.kill(victim, signal.SIGKILL)
        assert program.process.wait(LIMIT) == 1
        assert program.process.stderr is not None
        said = program.process.stderr.read()
        assert said.endswith(f"coalesced: the benchmark's process {victim} ended\n")


@pytest.mark.parametrize("word", ["resource_tracker", "caretaker"])
@pytest.mark.heavy
def test_a_killed_helper_is_no_loss(tmp_path: Path, word: str) -> None:
    """The benchmark removes what the helper would have removed."""
    with benchmark(tmp_path, "ring", "--json") as program:
        until(lambda: peers_are_there(program))
        for helper in processes(program, word):
            os.kill(helper.pid, signal.SIGKILL)
        os.kill(program.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    "what",
    [("exit",), *(pytest.param((name,), marks=heavy) for name in ("e1000", "vga", "live"))],
)
def test_a_killed_benchmark_takes_its_processes_along(tmp_path: Path, what: tuple[str]) -> None:
    """They are guest processes, the far end of a network, or QEMU."""
    with benchmark(tmp_path, *what, "--quick", "--json") as program:
        program.wait_for_guest()
        until(lambda: len(psutil.Process(program.pid).children()) >= 2)
        os.kill(program.pid, signal.SIGKILL)


@heavy
def test_a_killed_far_end_ends_the_benchmark(tmp_path: Path) -> None:
    """Otherwise the guest would go on sending to it."""
    with benchmark(tmp_path, "e1000", "--quick", "--json") as program:
        until(lambda: processes(program, "multiprocessing.spawn"))
        (victim, *_) = processes(program, "multiprocessing.spawn")
        os.kill(victim.pid, signal.SIGKILL)
        assert program.process.wait(LIMIT) == 1
