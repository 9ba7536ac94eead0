"""Starts of `coalesced` without its imports: forks of a process that has them, `warm_server`."""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "coalesced")
NOTHING: Mapping[str, str] = {}
_SERVER = Path(__file__).with_name("warm_server.py")


def _of_python() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}


_AT_FIRST = _of_python()
_ENVIRONMENT = dict(os.environ)  # no test has changed it yet


def can_start() -> bool:
    """Whether Python would start with the variables that the servers are started with."""
    return _of_python() == _AT_FIRST


_servers: dict[tuple[tuple[str, str], ...], socket.socket] = {}


@atexit.register
def _end_servers() -> None:
    """A server ends when its socket closes."""
    for server in _servers.values():
        server.close()


def _server(*variables: tuple[str, str]) -> socket.socket:
    """The socket to a server that was started with these variables.

    No child of this process: none that a test finds is one that another test has started.
    """
    if variables in _servers:
        return _servers[variables]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, str(_SERVER), PROGRAM],
            {**_ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1", **dict(variables)},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
            setsid=True,
            setsigmask=[],
        )
    os.waitpid(pid, 0)  # it has forked
    _servers[variables] = ours
    return ours


class Warm:
    """A running `coalesced`, with methods of a `Popen` that has two pipes of text."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path | None = None,
        stdout: int | None = None,
        variables: Mapping[str, str] = NOTHING,
        session: bool = False,
    ) -> None:
        """`stdout`: a descriptor instead of a pipe; `variables`: what Python looks at as it starts,
        like PYTHONUNBUFFERED; `session`: it has one of its own, and ends as Python ends."""
        self.returncode: int | None = None
        self._told, told = os.pipe()
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        self._streams = {out: bytearray(), err: bytearray()}
        self._opened = [out, err]
        request = {
            "arguments": list(arguments),
            "environment": {**os.environ, **variables},
            "folder": str(cwd or Path.cwd()),
            "session": session,
        }
        theirs = [0, their_out if stdout is None else stdout, their_err, told]
        server = _server(*sorted(variables.items()))
        socket.send_fds(server, [json.dumps(request).encode()], theirs)
        for descriptor in (their_out, their_err, told):
            os.close(descriptor)
        self.pid = self._next()

    def _next(self) -> int:
        number = os.read(self._told, 4)
        assert len(number) == 4, "the server of warm starts has ended"
        return int.from_bytes(number, "little", signed=True)

    def wait(self, timeout: float) -> int:
        """The exit status, negative for a signal; TimeoutExpired when there is none by then."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(PROGRAM, timeout)
            self.returncode = self._next()
            os.close(self._told)
        return self.returncode

    def poll(self) -> int | None:
        """The exit status if there is one."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, *, timeout: float = math.inf) -> tuple[str, str]:
        """Everything that it writes, and what it started; then its status is known, too."""
        deadline = time.monotonic() + timeout
        while self._opened:
            left = None if deadline == math.inf else max(0, deadline - time.monotonic())
            ready = select.select(self._opened, [], [], left)[0]
            if not ready:
                raise subprocess.TimeoutExpired(PROGRAM, timeout)
            for stream in ready:
                data = os.read(stream, 1 << 16)
                self._streams[stream] += data
                if not data:
                    os.close(stream)
                    self._opened.remove(stream)
        self.wait(max(0, deadline - time.monotonic()))
        out, err = (data.decode() for data in self._streams.values())
        return out, err


def run(
    arguments: Sequence[str],
    cwd: Path,
    timeout: float,
    stdout: int | None = None,
    variables: Mapping[str, str] = NOTHING,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    program = Warm(arguments, cwd, stdout, variables)
    try:
        out, err = program.communicate(timeout=timeout)
    except BaseException:
        program.kill()
        raise
    return subprocess.CompletedProcess(arguments, program.wait(0), out, err)
