"""`coalesced bench`: what a write and an exit cost, beside their peers and floors, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hv.abi import RING_PAGES_MAX
from tools.options import Accel, AccelOption, JsonOption, NetdevOption, Wait, WaitOption

if TYPE_CHECKING:
    from tools.bench.report import Section

bench = typer.Typer(
    name="bench",
    no_args_is_help=True,
    help="What a write and an exit cost, beside their peers and floors, in one run.",
)

RING_PAGES = 8
VGA_PAGES = (1, 16)

QuickOption = Annotated[
    bool, typer.Option("--quick", help="A few seconds instead of a minute; rougher figures.")
]
PagesOption = Annotated[
    int | None,
    typer.Option("--ring-pages", metavar="N", min=1, max=RING_PAGES_MAX, help="Pages of the ring."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.add_typer(bench, name="bench")


@bench.command("ring")
def ring(
    ring_pages: PagesOption = None, quick: QuickOption = False, json: JsonOption = False
) -> None:
    """Nanoseconds to append and drain an entry of the ring, across two processes.

    Example: coalesced bench ring --ring-pages 8
    """
    _show([_ring(ring_pages, quick)], json)


@bench.command("exit")
def exit_(quick: QuickOption = False, json: JsonOption = False) -> None:
    """Microseconds of an exit's round trip, by wait policy and placement.

    Example: coalesced bench exit --json
    """
    _show([_exit(quick)], json)


@bench.command("vga")
def vga(
    accel: AccelOption = Accel.process,
    ring_pages: PagesOption = None,
    wait: WaitOption = Wait.adaptive,
    quick: QuickOption = False,
    json: JsonOption = False,
) -> None:
    """Nanoseconds of a planar VGA write, from the guest's store to video memory; with
    --accel kvm also on this machine's KVM, beside a loop around KVM_RUN in C.

    Example: coalesced bench vga --ring-pages 16 --wait poll
    """
    _show([_vga(ring_pages, wait, quick, accel)], json)


@bench.command("e1000")
def e1000(
    netdev: NetdevOption = None,
    iperf: Annotated[
        str | None,
        typer.Option(
            "--iperf", metavar="HOST[:PORT]", help="Send to this `iperf -s -u`; needs a --netdev."
        ),
    ] = None,
    rate: Annotated[
        str,
        typer.Option("--rate", metavar="BITS", help="Of --iperf, a second: 50M; 0: all it can."),
    ] = "0",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", min=0.1, help="Of --iperf, each time.")
    ] = 5.0,
    tail_every: Annotated[
        int,
        typer.Option(
            "--tail-every",
            metavar="N",
            min=0,
            help="Of --iperf: frames for each write of the tail, 0: one for a burst.",
        ),
    ] = 1,
    ip: Annotated[
        str, typer.Option("--ip", metavar="ADDRESS", help="The guest's, with --iperf.")
    ] = "192.0.2.2",
    wait: WaitOption = Wait.adaptive,
    quick: QuickOption = False,
    json: JsonOption = False,
) -> None:
    """Frames per second and CPU time per frame of a network card, with coalescing and without.

    Example: coalesced bench e1000 --iperf 192.0.2.1 --netdev tap,id=n0,ifname=tap0
    """
    if iperf is None and not netdev:
        _show([_e1000(wait, quick)], json)
        return
    from tools.bench import iperf as bench_iperf  # noqa: PLC0415

    _show([bench_iperf.run(iperf, netdev, ip, rate, seconds, tail_every, wait.value)], json)


@bench.command("all")
def all_(
    ring_pages: PagesOption = None,
    wait: WaitOption = Wait.adaptive,
    quick: QuickOption = False,
    json: JsonOption = False,
) -> None:
    """Everything above.

    Example: coalesced bench all --quick --json
    """
    sections = [_ring(ring_pages, quick), _exit(quick), _vga(ring_pages, wait, quick)]
    _show([*sections, _e1000(wait, quick)], json)


# Imports are in the functions: numpy and the machine would delay `coalesced --help`.


def _ring(ring_pages: int | None, quick: bool) -> Section:
    from tools.bench import report  # noqa: PLC0415
    from tools.bench import ring as bench_ring  # noqa: PLC0415
    from tools.bench.measure import progress  # noqa: PLC0415

    sizes = bench_ring.QUICK if quick else bench_ring.FULL
    with progress("ring", bench_ring.steps(sizes)) as step:
        return report.ring(bench_ring.measure(ring_pages or RING_PAGES, sizes, step))


def _exit(quick: bool) -> Section:
    from tools.bench import exits, host, report  # noqa: PLC0415
    from tools.bench.measure import progress  # noqa: PLC0415

    sizes = exits.QUICK if quick else exits.FULL
    placements = host.placements()
    with progress("exit", exits.steps(sizes) * len(placements)) as step:
        return report.exit_({p: exits.measure(p, sizes, step) for p in placements})


def _vga(ring_pages: int | None, wait: Wait, quick: bool, accel: Accel = Accel.process) -> Section:
    from tools.bench import report  # noqa: PLC0415
    from tools.bench import vga as bench_vga  # noqa: PLC0415
    from tools.bench.measure import progress  # noqa: PLC0415
    from tools.runner import check_kvm  # noqa: PLC0415

    sizes = bench_vga.QUICK if quick else bench_vga.FULL
    pages = (ring_pages,) if ring_pages else VGA_PAGES
    on_kvm = accel is Accel.kvm
    if on_kvm:
        check_kvm()
    with progress("vga", bench_vga.steps(pages, sizes, on_kvm)) as step:
        return report.vga(bench_vga.measure(pages, wait.value, sizes, step, on_kvm))


def _e1000(wait: Wait, quick: bool) -> Section:
    from tools.bench import e1000 as bench_e1000  # noqa: PLC0415
    from tools.bench.measure import progress  # noqa: PLC0415

    sizes = bench_e1000.QUICK if quick else bench_e1000.FULL
    with progress("e1000", bench_e1000.steps(sizes)) as step:
        return bench_e1000.measure(wait.value, sizes, step)


def _show(sections: list[Section], as_json: bool) -> None:
    from tools.bench import host, report  # noqa: PLC0415

    report.show(sections, host.describe(), as_json)
