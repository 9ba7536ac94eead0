"""`coalesced bench`: the cost of a write and an exit, beside peers and floors, in one run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools.bench.registry import BENCHES, Bench, Options, measure, plan
from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    JsonOption,
    NetdevOption,
    Wait,
    check_writable,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.outputs import check_apart

if TYPE_CHECKING:
    from coalesced.tools.bench.report import Report

# Imports are in the functions: numpy and the machine would delay `coalesced --help`.

HELP = "Measure the cost of a write and an exit, beside peers and floors, in one run."

bench = typer.Typer(name="bench", help=HELP)

QuickOption = Annotated[
    bool, typer.Option("--quick", help="A few seconds instead of a minute; rougher figures.")
]
PagesOption = Annotated[
    int | None,
    typer.Option("--ring-pages", metavar="N", min=1, max=RING_PAGES_MAX, help="Pages of the ring."),
]
WaitOption = Annotated[
    Wait | None,
    typer.Option("--wait", help="How either side waits (default: as each benchmark chooses)."),
]
RingOption = Annotated[
    str | None,
    typer.Option(
        "--ring",
        metavar="FILE",
        help="A ring of your own beside ours: FILE.h, FILE.c, FILE.so or FILE.py:CLASS.",
    ),
]
IperfOption = Annotated[
    str | None,
    typer.Option(
        "--iperf", metavar="HOST[:PORT]", help="Send to this `iperf -s -u`; needs a --netdev."
    ),
]
RateOption = Annotated[
    str,
    typer.Option(
        "--rate", metavar="BITS", help="Rate for --iperf in bit/s, e.g. 50M; 0 for unlimited."
    ),
]
SecondsOption = Annotated[
    float,
    typer.Option("--seconds", metavar="N", min=0.1, help="Duration of each test with --iperf."),
]
TailOption = Annotated[
    int,
    typer.Option(
        "--tail-every",
        metavar="N",
        min=0,
        help="With --iperf: frames per write of the tail; 0: one write per burst.",
    ),
]
IpOption = Annotated[
    str, typer.Option("--ip", metavar="ADDRESS", help="The guest's address with --iperf.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the figures as charts.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Save every sample, for `bench --compare`."),
]
TableOption = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE.md", help="Write the figures as a Markdown table."),
]
CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="Show the changes between two files of --save."),
]

# Options of `Options` by name: the type and the default.
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "ring_pages": (PagesOption, None),
    "ring": (RingOption, None),
    "wait": (WaitOption, None),
    "accel": (AccelOption, Accel.process),
    "netdev": (NetdevOption, None),
    "iperf": (IperfOption, None),
    "rate": (RateOption, "0"),
    "seconds": (SecondsOption, 5.0),
    "tail_every": (TailOption, 1),
    "ip": (IpOption, "192.0.2.2"),
    "quick": (QuickOption, False),
}
_OUTPUTS: dict[str, tuple[Any, Any]] = {
    "json": (JsonOption, False),
    "plot": (PlotOption, None),
    "save": (SaveOption, None),
}


def register(app: typer.Typer) -> None:
    """Add `bench` with a command for each benchmark to the program."""
    for name, each in BENCHES.items():
        _add([name], name, each)
    everything = Bench(
        "",
        "Everything above but growth, vcpus and rings.",
        " --save a.json --plot a.png --table a.md",
        ("ring_pages", "wait"),
    )
    together = [name for name, each in BENCHES.items() if not each.alone]
    _add(together, "all", everything, {"table": (TableOption, None)})
    app.add_typer(bench, name="bench")


@bench.callback(invoke_without_command=True, help=HELP)
def bench_(context: typer.Context, compare: CompareOption = None, json: JsonOption = False) -> None:
    """Example: coalesced bench --compare before.json after.json"""
    if compare is not None:
        from coalesced.tools.bench import saved  # noqa: PLC0415

        saved.show(saved.compare(*compare), json)
        raise typer.Exit
    if json:
        raise BadInput("--json: give a benchmark's name, or --compare A B")
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def _add(names: Sequence[str], name: str, each: Bench, more: dict[str, Any] | None = None) -> None:
    """Add a command that runs benchmarks, with the options that they have."""
    given = {option: _OPTIONS[option] for option in (*each.options, "quick")}
    parameters = {**given, **_OUTPUTS, **(more or {})}

    def command(**values: Any) -> None:
        output = Output(**{key: values.pop(key) for key in parameters if key not in given})
        _run(names, _options(**values), output)

    command.__doc__ = f"{each.help}\n\nExample: coalesced bench {name}{each.example}"
    command.__annotations__ = {key: annotation for key, (annotation, _) in parameters.items()}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)
            for key, (kind, value) in parameters.items()
        ]
    )
    bench.command(name)(command)


def _options(
    accel: Accel = Accel.process, netdev: list[str] | None = None, **values: Any
) -> Options:
    """Raises BadInput without KVM where it is wanted."""
    from coalesced.tools.runs.runner import check_kvm  # noqa: PLC0415

    if accel is Accel.kvm:
        check_kvm()
    return Options(on_kvm=accel is Accel.kvm, netdev=tuple(netdev or ()), **values)


@dataclass(frozen=True)
class Output:
    """The stream for the report."""

    json: bool
    plot: Path | None
    save: Path | None
    table: Path | None = None

    def check(self) -> None:
        """Raise BadInput for what cannot be written: before anything is measured."""
        files = {"--plot": self.plot, "--save": self.save, "--table": self.table}
        for option, path in files.items():
            if path is not None:
                check_writable(option, path)
        if self.plot is not None:
            from coalesced.tools.bench import plot  # noqa: PLC0415

            plot.check()
        check_apart(files, {})

    def write(self, result: Report) -> None:
        """Print the report and write its files."""
        from coalesced.tools.bench import plot, report, saved  # noqa: PLC0415

        report.show(result, self.json)
        if self.save is not None:
            saved.save(self.save, result)
        if self.table is not None:
            report.write_table(self.table, result)
        if self.plot is not None:
            plot.draw(self.plot, result.sections, str(result.machine))


def _run(names: Sequence[str], options: Options, output: Output) -> None:
    """Measure, and report what was measured, also when Ctrl-C or an error ended it early."""
    output.check()
    result = measure({name: plan(name, options) for name in names})
    if result.sections:
        output.write(result)
    if result.ended is not None:
        raise result.ended
