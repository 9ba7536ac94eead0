"""`coalesced demo`: guests that drive a device, with coalescing on, off, and direct."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    Cpus,
    CpusOption,
    JsonOption,
    NoCoalesceOption,
    Picture,
    RingPagesOption,
    RunOptions,
    StalenessOption,
    TracebackOption,
    TraceOption,
    Wait,
    WaitOption,
    path_of,
    picture,
    png_option,
    run_options,
)
from coalesced.tools.guests import picture as pictures
from coalesced.tools.runs import e1000 as demo_e1000
from coalesced.tools.runs import report, session
from coalesced.tools.runs.outputs import check_apart
from coalesced.tools.runs.runner import Job
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

_demo = typer.Typer(help="Two processes, a guest that drives a device, and what the ring saved.")


class Chip(StrEnum):
    """--chip: QEMU's names."""

    vga = "VGA"
    isa_vga = "isa-vga"
    vga_mm = "vga_mm"
    cirrus = "cirrus-vga"
    isa_cirrus = "isa-cirrus-vga"


# Where a chip is plugged in; the memory-mapped one where tools.guests.vga_mm looks for it.
_SPECS = {
    Chip.vga: "VGA,addr=02.0",
    Chip.isa_vga: "isa-vga",
    Chip.vga_mm: "vga_mm,ctrl_base=0xe0000000,vram_base=0xe1000000,it_shift=2",
    Chip.cirrus: "cirrus-vga,addr=02.0",
    Chip.isa_cirrus: "isa-cirrus-vga",
}


@_demo.command(
    "vga",
    epilog="Examples: coalesced demo vga · coalesced demo vga --ring-pages 16 --json · "
    "coalesced demo vga --image photo.jpg --png screen.png · coalesced demo vga --chip vga_mm",
)
def vga(
    chip: Annotated[Chip, typer.Option("--chip", help="The card that the guest draws on.")] = (
        Chip.vga
    ),
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "off",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="Draw this picture, quantised to 16 colours."),
    ] = None,
    png: Annotated[Path | None, png_option("demo-vga.png")] = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """The guest programs mode 12h (640 x 480, 16 colours) and draws with planar writes."""
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace)
    wanted = picture(png, "demo-vga.png")
    check_apart({"--trace": trace, "--png": path_of(wanted)}, {"the picture": image})
    if image is None:
        result = _draw_vga(chip, options, wanted)
        raise typer.Exit(session.say("Planar VGA, mode 12h", result, json))
    raise typer.Exit(_draw_image(chip, image, options, wanted, json))


@_demo.command(
    "cirrus",
    epilog="Examples: coalesced demo cirrus · coalesced demo cirrus --ring-pages 16 --json",
)
def cirrus(
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "off",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    png: Annotated[Path | None, png_option("demo-cirrus.png")] = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """The guest draws on a Cirrus GD5446 with planar and linear writes and with its blitter."""
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace)
    wanted = picture(png, "demo-cirrus.png")
    check_apart({"--trace": trace, "--png": path_of(wanted)}, {})
    result = _draw_cirrus(options, wanted)
    raise typer.Exit(session.say("Cirrus GD5446 and its blitter", result, json))


@_demo.command("all", epilog="Examples: coalesced demo all · coalesced demo all --json")
def all_(
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "off",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """Every demonstration, one after the other; the JSON object has one member for each.

    Not e1000 with --accel kvm: its guest waits for interrupts.
    """
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, None)
    results = {
        "vga": _draw_vga(Chip.vga, options, picture(None, "demo-vga.png")),
        "cirrus": _draw_cirrus(options, picture(None, "demo-cirrus.png")),
    }
    if accel is not Accel.kvm:
        results["e1000"] = demo_e1000.exchange(options)
    if json:
        report.print_json(dict(results))
        raise typer.Exit(max(session.status_of(result) for result in results.values()))
    statuses = [
        demo_e1000.say(result, False) if name == "e1000" else session.say(name, result, False)
        for name, result in results.items()
    ]
    raise typer.Exit(max(statuses))


def _draw_vga(chip: Chip, options: RunOptions, png: Picture | None) -> dict[str, object]:
    job = Job(f"{_guest(chip)}:draw", {}, session.board_of([_SPECS[chip]]), session.screen_of)
    return session.run_all("vga", job, options, png)[0]


def _draw_cirrus(options: RunOptions, png: Picture | None) -> dict[str, object]:
    board = session.board_of([_SPECS[Chip.cirrus]])
    job = Job("coalesced.tools.guests.cirrus:draw", {}, board, session.screen_of)
    return session.run_all("cirrus", job, options, png)[0]


def _draw_image(
    chip: Chip, image: Path, options: RunOptions, png: Picture | None, json: bool
) -> int:
    """Let the guest draw a picture and hold the screen against it; the exit status."""
    wanted = pictures.load(image)

    def write_rom(machine: Machine, _board: Board) -> None:
        wanted.write_to(machine.ram)

    job = Job(
        f"{_guest(chip)}:draw_image",
        {"address": pictures.ADDRESS},
        session.board_of([_SPECS[chip]]),
        session.screen_of,
        write_rom,
    )
    result, screen = session.run_all("vga", job, options, png)
    equal = screen is not None and np.array_equal(screen, wanted.rgb())
    result["image_equal"] = equal
    status = session.say(f"Planar VGA, {image}", result, json)
    if not equal:
        sys.stderr.write(f"coalesced: the screen differs from {image}\n")
    return status if equal else 1


def _guest(chip: Chip) -> str:
    return "coalesced.tools.guests.vga_mm" if chip is Chip.vga_mm else "coalesced.tools.guests.vga"


demo_e1000.register(_demo)


def register(app: typer.Typer) -> None:
    """Add `demo` to the program."""
    app.add_typer(_demo, name="demo")
