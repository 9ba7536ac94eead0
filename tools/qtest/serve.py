"""A run of `coalesced qtest`: a machine, its server, and the counts of the run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coalesced.tools.commands.options import NetworkOptions, RunOptions
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.qtest.server import Server
from coalesced.tools.runs import boards, report
from coalesced.tools.runs.outputs import trace_file
from coalesced.tools.runs.runner import Job, run_job
from coalesced.vmm.machine import Machine


@dataclass(frozen=True)
class Wanted:
    """The socket and the machine."""

    path: Path  # of the socket
    devices: Sequence[str]  # SPECs
    ram_size: int  # bytes
    network: NetworkOptions
    options: RunOptions


@dataclass(frozen=True)
class Served:
    """The number of commands, and the run of the guest."""

    commands: int
    run: report.Run


def serve(wanted: Wanted) -> Served:
    """Serve until the peer closes the socket. Raises BadInput, Interrupted with the count."""
    servers: list[Server] = []
    with _connected(wanted.path) as peer, _pipe() as (read_end, write_end):

        def build(machine: Machine) -> None:
            specs = list(wanted.devices)
            board = boards.board(machine, specs, wanted.ram_size, wanted.network)
            servers.append(Server(board, peer, read_end))

        # The guest process opens the pipe by the descriptor of this one.
        arguments = {"wake": f"/proc/{os.getpid()}/fd/{write_end}"}
        job = Job("coalesced.tools.guests.qtest:serve", arguments, build, lambda *_: None)
        options = wanted.options
        try:
            with trace_file(options.trace) as out:
                run, _, _ = run_job(job, options, options.accel, options.coalesce, out)
        except KeyboardInterrupt as error:
            commands = sum(server.commands for server in servers)
            raise Interrupted(f"{commands:,} commands; {error}") from error
    return Served(servers[0].commands, run)


def show(served: Served, json: bool) -> int:
    """Print the counts; the exit status, 1 when a device raised."""
    run = served.run
    if json:
        report.print_json({"commands": served.commands, **run})
    else:
        print(
            f"{served.commands:,} commands: {run['writes']:,} device writes, "
            f"{run['coalesced']:,} of them queued, {run['exits']:,} exits, "
            f"{run['unassigned']:,} accesses that no device answered"
        )
    report.print_failures([run])
    return 1 if run["failed_writes"] else 0


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
