"""`coalesced run`: a user's own guest."""

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
    NetworkStalenessOption,
    NoCoalesceOption,
    PcapOption,
    PngOption,
    RingPagesOption,
    TracebackOption,
    TraceOption,
    Wait,
    WaitOption,
    network_options,
    network_staleness,
    path_of,
    picture,
    run_options,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import session
from coalesced.tools.runs.boards import DEFAULT_DEVICE, DeviceOption
from coalesced.tools.runs.outputs import check_apart, guest_files
from coalesced.tools.runs.runner import Job

EXAMPLES = (
    "Examples: coalesced run guest.py:main --png screen.png · "
    "coalesced run guest.py:main --device card.py:Card,addr=05.0 · "
    "coalesced run guest.py:main --netdev tap,id=n0,ifname=tap0 --device e1000,netdev=n0"
)


def run(
    guest: Annotated[
        str, typer.Argument(metavar="GUEST", help="FILE.py:FUNCTION, called with a Vcpu.")
    ],
    device: DeviceOption = None,
    netdev: NetdevOption = None,
    pcap: PcapOption = None,
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: NetworkStalenessOption = None,
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    png: PngOption = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """Run a guest of your own, on a PC with a VGA at 00:02.0 unless --device says otherwise:
    with coalescing on, off, and direct."""
    stale = network_staleness(staleness, netdev)
    options = run_options(accel, ring_pages, wait, stale, no_coalesce, cpus, trace)
    if netdev and accel is Accel.kvm:
        raise BadInput(f"--netdev {netdev[0]}: --accel kvm runs recorded guests, without a network")
    network = network_options(netdev, pcap)
    wanted = picture(png, None)
    outputs = {"--trace": trace, "--png": path_of(wanted), "--pcap": pcap}
    check_apart(outputs, guest_files(guest, device or []))
    where = guest.rpartition(":")[0]
    if where.endswith(".py"):
        # The guest process may have another idea of the working directory's modules, not of files.
        guest = f"{Path(where).absolute()}:{guest.rpartition(':')[2]}"
    job = Job(guest, {}, session.board_of(device or [DEFAULT_DEVICE], network), session.screen_of)
    result, _ = session.run_all(guest, job, options, wanted)
    raise typer.Exit(session.say(guest, result, json))


def register(app: typer.Typer) -> None:
    """Add `run` to the program."""
    app.command("run", epilog=EXAMPLES)(run)
