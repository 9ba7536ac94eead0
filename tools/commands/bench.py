"""`coalesced bench`: what a write and an exit cost, beside their peers and floors, in one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    JsonOption,
    NetdevOption,
    Wait,
    WaitOption,
    check_writable,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.outputs import check_apart

if TYPE_CHECKING:
    from coalesced.tools.bench.registry import Options, Plan
    from coalesced.tools.bench.report import Section

bench = typer.Typer(
    name="bench",
    help="What a write and an exit cost, beside their peers and floors, in one run.",
)

QuickOption = Annotated[
    bool, typer.Option("--quick", help="A few seconds instead of a minute; rougher figures.")
]
PagesOption = Annotated[
    int | None,
    typer.Option("--ring-pages", metavar="N", min=1, max=RING_PAGES_MAX, help="Pages of the ring."),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the figures, too.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Keep every sample, for `bench --compare`."),
]
TableOption = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE.md", help="Write the README's table, as Markdown."),
]
CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="What changed between two files of --save."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.add_typer(bench, name="bench")


@dataclass(frozen=True)
class Output:
    """Where the report goes."""

    json: bool
    plot: Path | None
    save: Path | None
    table: Path | None = None

    def check(self) -> None:
        """Raise BadInput for what could not be written: before anything is measured."""
        if self.plot is not None:
            from coalesced.tools.bench import plot  # noqa: PLC0415

            check_writable("--plot", self.plot)
            plot.check()
        if self.save is not None:
            check_writable("--save", self.save)
        if self.table is not None:
            check_writable("--table", self.table)
        check_apart({"--plot": self.plot, "--save": self.save, "--table": self.table}, {})


@bench.callback(invoke_without_command=True)
def bench_(context: typer.Context, compare: CompareOption = None, json: JsonOption = False) -> None:
    """What a write and an exit cost, beside their peers and floors, in one run.

    Example: coalesced bench --compare before.json after.json
    """
    if compare is not None:
        from coalesced.tools.bench import saved  # noqa: PLC0415

        saved.compare(*compare, json)
        raise typer.Exit
    if json:
        raise BadInput("--json: expected --compare beside it, or a benchmark's name before it")
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@bench.command("ring")
def ring(
    ring_pages: PagesOption = None,
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Nanoseconds to append and drain an entry of the ring, by ring size, burst and placement.

    Example: coalesced bench ring --ring-pages 8 --plot ring.png
    """
    from coalesced.tools.bench.registry import Options  # noqa: PLC0415

    _measure(["ring"], Options(quick, ring_pages), Output(json, plot, save))


@bench.command("exit")
def exit_(
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Microseconds of an exit's round trip, by wait policy and placement.

    Example: coalesced bench exit --json
    """
    from coalesced.tools.bench.registry import Options  # noqa: PLC0415

    _measure(["exit"], Options(quick), Output(json, plot, save))


@bench.command("vga")
def vga(
    accel: AccelOption = Accel.process,
    ring_pages: PagesOption = None,
    wait: WaitOption = Wait.adaptive,
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Nanoseconds of a planar VGA write, from the guest's store to video memory; QEMU beside it.

    With --accel kvm also on this machine's KVM, beside a loop around KVM_RUN in C.

    Example: coalesced bench vga --ring-pages 16 --wait poll
    """
    from coalesced.tools.bench.registry import Options  # noqa: PLC0415
    from coalesced.tools.runs.runner import check_kvm  # noqa: PLC0415

    on_kvm = accel is Accel.kvm
    if on_kvm:
        check_kvm()
    options = Options(quick, ring_pages, wait.value, on_kvm)
    _measure(["vga"], options, Output(json, plot, save))


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
    wait: Annotated[
        Wait | None,
        typer.Option("--wait", help="How either side waits; by default as each row says."),
    ] = None,
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Frames per second and CPU time per frame of a network card, with coalescing and without.

    Example: coalesced bench e1000 --iperf 192.0.2.1 --netdev tap,id=n0,ifname=tap0
    """
    from coalesced.tools.bench.registry import Options  # noqa: PLC0415

    output = Output(json, plot, save)
    if iperf is None and not netdev:
        _measure(["e1000"], Options(quick, wait=wait and wait.value), output)
        return
    output.check()
    from coalesced.tools.bench import host  # noqa: PLC0415
    from coalesced.tools.bench import iperf as bench_iperf  # noqa: PLC0415

    section = bench_iperf.run(
        iperf, netdev, ip, rate, seconds, tail_every, (wait or Wait.adaptive).value
    )
    _report([section], host.describe(), output, complete=True)


@bench.command("model")
def model(
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Round trip, append and dispatch, fitted; what they predict, beside what is measured.

    Example: coalesced bench model
    """
    from coalesced.tools.bench.registry import Options  # noqa: PLC0415

    _measure(["model"], Options(quick), Output(json, plot, save))


@bench.command("all")
def all_(
    ring_pages: PagesOption = None,
    wait: Annotated[
        Wait | None,
        typer.Option("--wait", help="How either side waits; by default as each benchmark has it."),
    ] = None,
    quick: QuickOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    table: TableOption = None,
) -> None:
    """Everything above.

    Example: coalesced bench all --save today.json --plot today.png --table today.md
    """
    from coalesced.tools.bench.registry import BENCHES, Options  # noqa: PLC0415

    options = Options(quick, ring_pages, wait and wait.value)
    _measure(list(BENCHES), options, Output(json, plot, save, table))


# Imports are in the functions: numpy and the machine would delay `coalesced --help`.


def _measure(names: list[str], options: Options, output: Output) -> None:
    """Measure, and report what was measured, also when Ctrl-C or an error ended it early."""
    output.check()
    from coalesced.tools.bench import host, registry  # noqa: PLC0415

    machine = host.describe()
    plans = {name: registry.plan(name, options) for name in names}
    sections: list[Section] = []
    ended: BaseException | None = None
    try:
        _run(plans, sections)
    except (Exception, KeyboardInterrupt) as error:
        ended = error
    if sections:
        _report(sections, machine, output, ended is None)
    if ended is not None:
        raise ended


def _run(plans: dict[str, Plan], sections: list[Section]) -> None:
    """Run one after the other. Raises KeyboardInterrupt after Ctrl-C, with what it left taken."""
    from coalesced.tools.bench.progress import shown  # noqa: PLC0415

    with shown(sum(plan.seconds for plan in plans.values())) as progress:
        for number, (name, plan) in enumerate(plans.items(), 1):
            what = f"{name} ({number} of {len(plans)})" if len(plans) > 1 else name
            sections.append(plan.run(progress.part(what, plan.steps, plan.seconds)))
            if progress.stopped:
                raise KeyboardInterrupt


def _report(
    sections: list[Section], machine: dict[str, object], output: Output, complete: bool
) -> None:
    from coalesced.tools.bench import report  # noqa: PLC0415

    report.show(sections, machine, output.json, complete)
    if output.save is not None:
        from coalesced.tools.bench import saved  # noqa: PLC0415

        saved.save(output.save, sections, machine, complete)
    if output.table is not None:
        from coalesced.tools.bench import summary  # noqa: PLC0415

        summary.write(output.table, sections, machine)
    if output.plot is not None:
        from coalesced.tools.bench import plot  # noqa: PLC0415

        plot.draw(output.plot, sections, report.machine_line(machine))
