"""`coalesced live`: a page in the browser that shows a machine while its guest runs."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import (
    DeviceOption,
    check_writable,
    staleness_of,
    with_run_options,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.live import beside, subjects
from coalesced.tools.live.session import Page, Subject, of_job
from coalesced.tools.runs import report
from coalesced.tools.runs.options import Accel, RunOptions
from coalesced.tools.runs.results import Comparison, Savings
from coalesced.tools.stress.cores.broken import BROKEN

EXAMPLES = (
    "Examples: coalesced live · coalesced live cirrus --ring-pages 16 · "
    "coalesced live e1000 · coalesced live guest.py:main · coalesced live boot:plasma · "
    "coalesced live lesson:1 · "
    "coalesced live trace:boot --run --json"
)

IMAGE = "boot:"

WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="[WHAT]",
        help="vga, cirrus or e1000, the demonstrations; FILE.py:FUNCTION, a guest of your "
        "own; a trace file, or trace:boot or trace:e1000, recorded ones; boot:IMAGE, machine "
        "code; lesson:1 to lesson:7.",
        show_default=True,
    ),
]
ListenOption = Annotated[
    str,
    typer.Option(
        "--listen",
        metavar="HOST[:PORT]",
        help="Address of the page's server. Other machines reach the page only if you name an "
        "address that they can reach.",
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE.html",
        help="Write a page that plays the last minute, without a server, when the program ends.",
    ),
]


@with_run_options(without=("pcap", "explain", "explain_first", "netdev"), staleness="off")
def live(
    options: RunOptions,
    json: bool,
    what: WhatArgument = "vga",
    device: DeviceOption = None,
    listen: ListenOption = beside.LOOPBACK,
    run: Annotated[
        bool, typer.Option("--run", help="Start the guest at once instead of holding it.")
    ] = False,
    leave: Annotated[
        bool, typer.Option("--exit", help="End with the guest instead of at Ctrl-C.")
    ] = False,
    record: RecordOption = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, if there is a display.")
    ] = True,
) -> int:
    """Show a machine in the browser: its screen, the ring, the exits, and knobs to turn.

    The guest waits before its first access until you press Run or Step on the page.
    """
    if options.accel is not Accel.process:
        raise BadInput(f"--accel {options.accel}: the page shows the two processes of `process`")
    beside.check_installed()
    if record is not None:
        check_writable("--record", record)
    subject, options = _subject(what, device or [], options)
    server = beside.start(*_address(listen), record, BROKEN)
    try:
        _say_where(server, browser)
        page = Page(server.link, run, leave, record is not None)
        again: RunOptions | None = options
        while again is not None:
            ran, again = subject(again, page)
    finally:
        server.close()
    result = Comparison(what, options.accel, [ran], Savings(), True, [])
    return report.show(what, result, json)


def _subject(what: str, devices: list[str], options: RunOptions) -> tuple[Subject, RunOptions]:
    """The subject and its options: a boot needs a staleness. Raises BadInput."""
    image = what.removeprefix(IMAGE)
    if image == what:
        return subjects.find(what, devices, options)
    from coalesced.tools.boot.run import job  # noqa: PLC0415 - of machine code alone
    from coalesced.tools.commands import boot  # noqa: PLC0415

    staleness = options.staleness or staleness_of(boot.STALENESS)
    subject = of_job(what, job(boot.usual(image, devices)), lambda running: running.board)
    return subject, replace(options, staleness=staleness)


def _address(text: str) -> tuple[str, int]:
    """--listen: the host and the port, 0 for any. Raises BadInput."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, "0"
    if not port.isdecimal() or int(port) > 0xFFFF or not host:
        raise BadInput(f"--listen {text}: expected HOST or HOST:PORT")
    return host.strip("[]"), int(port)


def _say_where(server: beside.Server, browser: bool) -> None:
    """The addresses, on stderr: stdout has the result."""
    sys.stderr.write(f"The page: {server.turn}\nOnly to look: {server.show}\n")
    sys.stderr.flush()
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser and display and sys.stderr.isatty():
        webbrowser.open(server.turn)


def register(app: typer.Typer) -> None:
    """Add `live` to the program."""
    app.command("live", epilog=EXAMPLES)(live)
