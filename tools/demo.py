"""`coalesced demo`: a guest that draws, with coalescing on, off, and direct."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import typer

from devices.vga import Vga
from tools import picture, session
from tools.options import (
    Accel,
    AccelOption,
    Cpus,
    CpusOption,
    JsonOption,
    NoCoalesceOption,
    RingPagesOption,
    StalenessOption,
    TraceOption,
    Wait,
    WaitOption,
    check_writable,
    run_options,
)
from tools.runner import Job
from vmm.machine import Machine

_demo = typer.Typer(help="Two processes, a guest that draws, and what the ring saved.")


@_demo.command(
    "vga",
    epilog="Examples: coalesced demo vga · coalesced demo vga --ring-pages 16 --json · "
    "coalesced demo vga --image photo.jpg --png screen.png",
)
def vga(
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "off",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    image: Path = typer.Option(  # noqa: B008 - typer's way
        None, "--image", metavar="FILE", help="Draw this picture, quantised to 16 colours."
    ),
    png: Path = typer.Option(  # noqa: B008
        Path("demo-vga.png"), "--png", metavar="FILE", help="Where the screen goes as a picture."
    ),
    json: JsonOption = False,
) -> None:
    """The guest programs mode 12h (640 x 480, 16 colours) and draws with planar writes."""
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace)
    check_writable("--png", png)
    if image is None:
        job = Job("tools.guests.vga:draw", {}, session.vga_board, session.screen_of)
        result, _ = session.run_all("vga", job, options, png)
        raise typer.Exit(session.say("Planar VGA, mode 12h", result, json))

    wanted = picture.load(image)

    def write_rom(machine: Machine, _board: Vga) -> None:
        wanted.write_to(machine.ram)

    job = Job(
        "tools.guests.vga:draw_image",
        {"address": picture.ADDRESS},
        session.vga_board,
        session.screen_of,
        write_rom,
    )
    result, screen = session.run_all("vga", job, options, png)
    result["image_equal"] = bool(np.array_equal(screen, wanted.rgb()))
    status = session.say(f"Planar VGA, {image}", result, json)
    if not result["image_equal"]:
        sys.stderr.write(f"coalesced: the screen differs from {image}\n")
    raise typer.Exit(status if result["image_equal"] else 1)


def register(app: typer.Typer) -> None:
    """Add `demo` to the program."""
    app.add_typer(_demo, name="demo")
