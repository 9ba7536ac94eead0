"""`coalesced run`: a user's own guest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import (
    DeviceOption,
    VcpusOption,
    check_pcap,
    png_option,
    with_run_options,
    with_vcpus,
)
from coalesced.tools.runs import report
from coalesced.tools.runs.boards import DEFAULT_DEVICE
from coalesced.tools.runs.comparison import board_of, compare, screen_of
from coalesced.tools.runs.options import RunOptions, picture
from coalesced.tools.runs.outputs import check_apart, guest_files
from coalesced.tools.runs.runner import Job

EXAMPLES = (
    "Examples: coalesced run guest.py:main --png screen.png · "
    "coalesced run guest.py:main --device card.py:Card,addr=05.0 · "
    "coalesced run guest.py:main --vcpus 4 · "
    "coalesced run guest.py:main --netdev tap,id=n0,ifname=tap0 --device e1000,netdev=n0"
)


@with_run_options()
def run(
    options: RunOptions,
    json: bool,
    guest: Annotated[
        str, typer.Argument(metavar="GUEST", help="FILE.py:FUNCTION, called with a Vcpu.")
    ],
    device: DeviceOption = None,
    vcpus: VcpusOption = 1,
    png: Annotated[Path | None, png_option()] = None,
) -> int:
    """Run a guest of your own with coalescing on, off, and direct.

    The machine is a PC, by default with a VGA at 00:02.0. On several vCPUs there is no direct run.
    """
    options = with_vcpus(options, vcpus)
    check_pcap(options.network)
    wanted = picture(png)
    check_apart(options.outputs(wanted), guest_files(guest, device or []))
    where, _, function = guest.rpartition(":")
    if where.endswith(".py"):
        # The guest process may run in another directory.
        guest = f"{Path(where).absolute()}:{function}"
    job = Job(guest, {}, board_of(device or [DEFAULT_DEVICE], options.network), screen_of)
    result, _ = compare(guest, job, options, wanted)
    return report.show(guest, result, json)


def register(app: typer.Typer) -> None:
    """Add `run` to the program."""
    app.command("run", epilog=EXAMPLES)(run)
