"""`coalesced demo`: guests that drive a device, with coalescing on, off, and direct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands import demo_e1000
from coalesced.tools.commands.options import Accel, png_option, with_run_options
from coalesced.tools.runs import demos, report
from coalesced.tools.runs.demos import Chip
from coalesced.tools.runs.options import RunOptions, picture
from coalesced.tools.runs.outputs import check_apart

_demo = typer.Typer(
    help="Run a guest that drives a device in two processes; show what the ring saves."
)
_WITHOUT = ("netdev", "pcap")


@_demo.command(
    "vga",
    epilog="Examples: coalesced demo vga · coalesced demo vga --ring-pages 16 --json · "
    "coalesced demo vga --image photo.jpg --png screen.png · coalesced demo vga --chip vga_mm",
)
@with_run_options(_WITHOUT, staleness="off")
def vga(
    options: RunOptions,
    json: bool,
    chip: Annotated[Chip, typer.Option("--chip", help="The card that the guest draws on.")] = (
        Chip.vga
    ),
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="Draw this picture, quantised to 16 colours."),
    ] = None,
    png: Annotated[Path | None, png_option("demo-vga.png")] = None,
) -> int:
    """The guest programs mode 12h (640 x 480, 16 colours) and draws with planar writes."""
    wanted = picture(png, "demo-vga.png")
    check_apart(options.outputs(wanted), {"the picture": image})
    if image is None:
        return report.show("Planar VGA, mode 12h", demos.vga(chip, options, wanted), json)
    result = demos.image(chip, image, options, wanted)
    return report.show(f"Planar VGA, {image}", result, json)


@_demo.command(
    "cirrus",
    epilog="Examples: coalesced demo cirrus · coalesced demo cirrus --ring-pages 16 --json",
)
@with_run_options(_WITHOUT, staleness="off")
def cirrus(
    options: RunOptions,
    json: bool,
    png: Annotated[Path | None, png_option("demo-cirrus.png")] = None,
) -> int:
    """The guest draws on a Cirrus GD5446 with planar and linear writes and with its blitter."""
    wanted = picture(png, "demo-cirrus.png")
    check_apart(options.outputs(wanted), {})
    return report.show("Cirrus GD5446 and its blitter", demos.cirrus(options, wanted), json)


@_demo.command("all", epilog="Examples: coalesced demo all · coalesced demo all --json")
@with_run_options((*_WITHOUT, "trace_out"), staleness="off")
def all_(options: RunOptions, json: bool) -> int:
    """Run every demonstration; the JSON object has one member for each.

    --accel kvm leaves out e1000, whose guest waits for interrupts.
    """
    results = {
        "vga": demos.vga(Chip.vga, options, picture(None, "demo-vga.png")),
        "cirrus": demos.cirrus(options, picture(None, "demo-cirrus.png")),
    }
    if options.accel is not Accel.kvm:
        results["e1000"] = demo_e1000.exchange(options)
    if json:
        report.print_json(results)
    for name, result in results.items():
        if name == "e1000" and not json:
            demo_e1000.print_exchange(result)
        elif not json:
            report.print_comparison(name, result)
        report.print_failures(result.runs)
    return 0 if all(result.ok for result in results.values()) else 1


demo_e1000.register(_demo)


def register(app: typer.Typer) -> None:
    """Add `demo` to the program."""
    app.add_typer(_demo, name="demo")
