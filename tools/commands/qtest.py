"""`coalesced qtest`: QEMU's qtest protocol, carried out by the guest process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import Accel, DeviceOption, check_pcap, with_run_options
from coalesced.tools.errors import BadInput
from coalesced.tools.qtest.serving import serve
from coalesced.tools.runs import boards, report
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.outputs import check_apart, guest_files

EXAMPLES = (
    "Examples: coalesced qtest --socket /tmp/q --device VGA,addr=02.0 · "
    "coalesced qtest --socket /tmp/q --device isa-vga --accel direct · the test program listens "
    "at PATH first, as for QEMU's -qtest unix:PATH · coalesced qtest --socket /tmp/q "
    "--netdev dgram,id=n0,local=127.0.0.1:5001,remote=127.0.0.1:5002 --device e1000,netdev=n0"
)


@with_run_options(staleness="10")
def qtest(
    options: RunOptions,
    json: bool,
    path: Annotated[
        Path,
        typer.Option("--socket", metavar="PATH", help="UNIX socket to connect to."),
    ],
    device: DeviceOption = None,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="RAM of the machine, e.g. 16M.")
    ] = "16M",
) -> int:
    """Serve QEMU's qtest protocol until the peer closes the socket."""
    if options.accel == Accel.kvm:
        raise BadInput(
            "--accel kvm: it runs recorded guests, and qtest's commands are not known in advance"
        )
    check_pcap(options.network)
    ram_size = boards.memory_size(memory)
    check_apart(options.outputs(), guest_files("", device or []))
    served = serve(path, device or [], ram_size, options)
    run = served.run
    if json:
        report.print_json(served)
    else:
        print(
            f"{served.commands:,} commands: {run.writes:,} device writes, {run.coalesced:,} of "
            f"them queued, {run.exits:,} exits, {run.unassigned:,} accesses that no device answered"
        )
    report.print_failures([run])
    return 1 if run.failed_writes else 0


def register(app: typer.Typer) -> None:
    """Add `qtest` to the program."""
    app.command("qtest", epilog=EXAMPLES)(qtest)
