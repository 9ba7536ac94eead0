"""Serves the qtest protocol on a UNIX socket with a guest process that carries the commands out."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.qtest.server import Server
from coalesced.tools.runs import boards
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.outputs import trace_file
from coalesced.tools.runs.results import Run
from coalesced.tools.runs.runner import Job, run_job
from coalesced.vmm.machine import Machine


@dataclass(frozen=True)
class Served:
    """Number of commands carried out, and the run of the guest that did it."""

    commands: int
    run: Run = field(metadata=INLINE)


def serve(path: Path, specs: list[str], ram_size: int, options: RunOptions) -> Served:
    """Connect to the socket and serve it until the peer closes it. Raises BadInput, Interrupted."""
    servers: list[Server] = []
    with _connected(path) as peer, _pipe() as (read_end, write_end):
        # The guest process opens the pipe by the descriptor of this one.
        arguments = {"wake": f"/proc/{os.getpid()}/fd/{write_end}"}

        def build(machine: Machine) -> None:
            board = boards.board(machine, specs, ram_size, options.network)
            servers.append(Server(board, peer, read_end))

        job = Job("coalesced.tools.guests.qtest:serve", arguments, build, lambda *_: None)
        try:
            with trace_file(options.trace) as trace:
                ran = run_job(job, options, trace)
        except KeyboardInterrupt as error:
            commands = sum(server.commands for server in servers)
            raise Interrupted(f"{commands:,} commands; {error}") from error
    return Served(servers[0].commands, ran.run)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """The socket, connected to the listener at the path. Raises BadInput."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        try:
            peer.connect(str(path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"--socket {path}: cannot connect: {reason}") from error
        yield peer


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)
