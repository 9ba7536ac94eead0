"""The installed program, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from helpers import warm
from helpers.warm import PROGRAM, Warm

LIMIT = 300.0  # seconds; only a hang takes that long, also on a machine with other work


def run(
    *arguments: object,
    cwd: Path,
    prefix: tuple[str, ...] = (),
    stdout: int | None = None,
    variables: Mapping[str, str] = warm.NOTHING,
) -> subprocess.CompletedProcess[str]:
    """Run `coalesced` to its end: a warm start, or what a `prefix` makes of the command line.

    `stdout` and `variables` are those of a `Warm`. A test that has set a variable of Python's, like
    PYTHONPATH, gets a cold start, and so does `stress`.
    """
    # `stress` loads a core of its own in place of the one that a warm start has.
    if not prefix and warm.can_start() and arguments[:1] != ("stress",):
        return warm.run(list(map(str, arguments)), cwd, LIMIT, stdout, variables)
    return subprocess.run(
        [*prefix, PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def json_of(*arguments: object, cwd: Path) -> dict[str, Any]:
    """The one JSON object that a command prints; it must succeed."""
    done = run(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr or done.stdout
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The single line on stderr of a command that failed with `status` and said nothing else."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("coalesced: ")
    return lines[0].removeprefix("coalesced: ")


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Poll until a condition holds; fails when it does not within `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        started = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < deadline, "what was waited for did not happen"
        # A look at all processes costs milliseconds of a CPU that the program needs.
        time.sleep(max(0.01, 5 * (now - started)))


class Running:
    """A running `coalesced` in a session of its own, as under a terminal: a warm start.

    A test that has set a variable of Python's gets a cold one.
    """

    process: subprocess.Popen[str] | Warm

    def __init__(self, *arguments: object, cwd: Path) -> None:
        if warm.can_start():
            self.process = Warm(list(map(str, arguments)), cwd, session=True)
        else:
            self.process = _cold((), arguments, cwd)
        self._note()

    def _note(self) -> None:
        self.pid = self.process.pid
        self.guests: list[psutil.Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT)  # this closes its pipes, also when a test failed

    def wait_for_guest(self) -> psutil.Process:
        """Wait until the guest process is there."""

        def there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            self.look()
            return bool(self.guests)

        until(there)
        return self.guests[-1]

    def look(self) -> None:
        """Note the guest processes that there are now."""
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self.guests += [child for child in children if child not in self.guests]

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to every process of the group."""
        self.look()
        os.killpg(self.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: status, stdout, stderr."""
        out, err = self.process.communicate(timeout=LIMIT)
        return self.process.wait(LIMIT), out, err

    def nothing_left(self, limit: float = 30.0) -> None:
        """Fail unless every guest process and every segment is gone within `limit` seconds."""
        until(lambda: not any(alive(guest) for guest in self.guests), limit)
        pids = [self.pid, *(guest.pid for guest in self.guests)]
        prefixes = tuple(f"coalesced-{pid}-" for pid in pids)
        left = [name for name in os.listdir("/dev/shm") if name.startswith(prefixes)]
        assert left == []


class Cold(Running):
    """The installed program, whatever it imports: `prefix` is put before its command line."""

    process: subprocess.Popen[str]

    def __init__(self, *arguments: object, cwd: Path, prefix: tuple[str, ...] = ()) -> None:
        self.process = _cold(prefix, arguments, cwd)
        self._note()


def _cold(
    prefix: tuple[str, ...], arguments: tuple[object, ...], cwd: Path
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, PROGRAM, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def alive(process: psutil.Process) -> bool:
    """True while a process runs; false for one that has ended and was not waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
