"""`coalesced qtest`: QEMU's qtest protocol, carried out by the guest process."""

from __future__ import annotations

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
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs.outputs import check_apart, guest_files

EXAMPLES = (
    "Examples: coalesced qtest --socket /tmp/q --device VGA,addr=02.0 · "
    "coalesced qtest --socket /tmp/q --device isa-vga --accel direct · the test listens at PATH "
    "first, as for QEMU's -qtest unix:PATH · coalesced qtest --socket /tmp/q "
    "--netdev dgram,id=n0,local=127.0.0.1:5001,remote=127.0.0.1:5002 --device e1000,netdev=n0"
)


def qtest(
    path: Annotated[
        Path,
        typer.Option("--socket", metavar="PATH", help="UNIX socket to connect to."),
    ],
    device: devices.DeviceOption = None,
    netdev: NetdevOption = None,
    pcap: PcapOption = None,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="RAM of the machine, e.g. 16M.")
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
) -> int:
    """Serve QEMU's qtest protocol until the peer closes the socket."""
    if accel is Accel.kvm:
        raise BadInput("--accel kvm: it runs recorded guests; this one carries out commands")
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace)
    ram_size = devices.memory_size(memory)
    network = network_options(netdev, pcap)
    check_apart({"--trace": trace, "--pcap": pcap}, guest_files("", device or []))
    from coalesced.tools.qtest.serve import Wanted, serve, show  # noqa: PLC0415 - start-up time

    wanted = Wanted(path, device or [], ram_size, network, options)
    return show(serve(wanted), json)


def register(app: typer.Typer) -> None:
    """Add `qtest` to the program."""
    app.command("qtest", epilog=EXAMPLES)(qtest)
