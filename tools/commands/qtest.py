"""`coalesced qtest`: QEMU's qtest protocol, carried out by the guest process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    Cpus,
    CpusOption,
    JsonOption,
    NetdevOption,
    NoCoalesceOption,
    PcapOption,
    RingPagesOption,
    StalenessOption,
    TracebackOption,
    TraceOption,
    Wait,
    WaitOption,
    network_options,
    run_options,
)
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.qtest.server import Server
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs import report
from coalesced.tools.runs.outputs import check_apart, guest_files, trace_file
from coalesced.tools.runs.runner import Job, run_job
from coalesced.vmm.machine import Machine

EXAMPLES = (
    "Examples: coalesced qtest --socket /tmp/q --device VGA,addr=02.0 · "
    "coalesced qtest --socket /tmp/q --device isa-vga --accel direct · whoever tests listens "
    "at PATH first, as for QEMU's -qtest unix:PATH · coalesced qtest --socket /tmp/q "
    "--netdev dgram,id=n0,local=127.0.0.1:5001,remote=127.0.0.1:5002 --device e1000,netdev=n0"
)


def qtest(
    path: Annotated[
        Path,
        typer.Option("--socket", metavar="PATH", help="The UNIX socket to connect to."),
    ],
    device: devices.DeviceOption = None,
    netdev: NetdevOption = None,
    pcap: PcapOption = None,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="RAM of the machine, like 16M.")
    ] = "16M",
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "10",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """Serve QEMU's qtest protocol until the peer closes the socket."""
    if accel is Accel.kvm:
        raise BadInput("--accel kvm: it runs recorded guests; this one is told what to do")
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace)
    ram_size = devices.memory_size(memory)
    network = network_options(netdev, pcap)
    check_apart({"--trace": trace, "--pcap": pcap}, guest_files("", device or []))
    servers: list[Server] = []
    with _connected(path) as peer, _pipe() as (read_end, write_end):
        # The guest process opens the pipe by the descriptor of this one.
        arguments = {"wake": f"/proc/{os.getpid()}/fd/{write_end}"}

        def build(machine: Machine) -> None:
            board = devices.board(machine, device or [], ram_size, network)
            servers.append(Server(board, peer, read_end))

        job = Job(
            "coalesced.tools.guests.qtest:serve", arguments, build, lambda _machine, _board: None
        )
        try:
            with trace_file(options.trace) as out:
                run, _, _ = run_job(job, options, options.accel, options.coalesce, out)
        except KeyboardInterrupt as error:
            commands = sum(server.commands for server in servers)
            raise Interrupted(f"{commands:,} commands; {error}") from error
    result: dict[str, object] = {"commands": servers[0].commands, **run}
    if json:
        report.print_json(result)
    else:
        print(
            f"{result['commands']:,} commands: {run['writes']:,} device writes, "
            f"{run['coalesced']:,} of them queued, {run['exits']:,} exits, "
            f"{run['unassigned']:,} accesses that no device answered"
        )
    report.print_failures([run])
    raise typer.Exit(1 if run["failed_writes"] else 0)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """The socket, connected to whoever listens at the path. Raises BadInput."""
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


def register(app: typer.Typer) -> None:
    """Add `qtest` to the program."""
    app.command("qtest", epilog=EXAMPLES)(qtest)
