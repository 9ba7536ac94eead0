"""`coalesced advise`: from a recording, what to coalesce, what not, and what it saves."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coalesced.hv.printable import printable
from coalesced.tools.commands.options import (
    Accel,
    DeviceOption,
    JsonOption,
    check_writable,
    staleness_of,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.traces import find
from coalesced.tools.traces.formats import FORMATS

if TYPE_CHECKING:
    from coalesced.tools.advise.advice import Advice, ExitCost, Options
    from coalesced.tools.advise.proof import Prover
    from coalesced.tools.advise.recording import Recording

NS_MAX = 1_000_000_000


class ZonesForm(StrEnum):
    """Notations of the zones."""

    c = "c"
    python = "python"
    json = "json"


TracesArgument = Annotated[
    list[str],
    typer.Argument(metavar="TRACE..", help="Recordings, `-` for stdin, or one of: boot, e1000."),
]
ZoneOption = Annotated[
    list[str] | None,
    typer.Option(
        "--zone",
        metavar="[pio:]ADDRESS+SIZE",
        help="A zone in force when it was recorded. Repeatable.",
        show_default="inferred",
    ),
]
StalenessOption = Annotated[
    str,
    typer.Option(
        "--staleness", metavar="MS|off", help="Milliseconds that a write may wait, or off."
    ),
]
ExitOption = Annotated[
    str | None,
    typer.Option(
        "--exit-ns",
        metavar="NS|FILE",
        help="Cost of an exit, or a file of `coalesced bench exit --save`.",
        show_default="measured now, in under a second",
    ),
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        metavar="VERSION",
        help="Recorded Linux, e.g. 6.1; before 6.12 a ring may be full at 85 entries.",
    ),
]
MapOption = Annotated[
    Path | None,
    typer.Option("--map", metavar="FILE", help="Names from `info mtree -f` or /proc/iomem."),
]
FormOption = Annotated[
    ZonesForm | None,
    typer.Option("--zones", help="Print only the zones to add, in this notation."),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Replay with the advised zones and without; drop those that fail."
    ),
]
ProofOption = Annotated[Accel, typer.Option("--accel", help="With --verify: process or kvm.")]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report with pictures, as one page."),
]
PerfettoOption = Annotated[
    Path | None,
    typer.Option("--perfetto", metavar="FILE", help="Write accesses and the ring for Perfetto."),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="N",
        min=0,
        help="Threads that read a recording (4 at most), or processes for several.",
        show_default="one for each CPU",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Let a Dask cluster read."),
]


def advise(
    traces: TracesArgument,
    zone: ZoneOption = None,
    staleness: StalenessOption = "1",
    exit_ns: ExitOption = None,
    kernel: KernelOption = None,
    names: MapOption = None,
    zones: FormOption = None,
    verify: VerifyOption = False,
    accel: ProofOption = Accel.process,
    device: DeviceOption = None,
    page: HtmlOption = None,
    perfetto: PerfettoOption = None,
    jobs: JobsOption = 0,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
) -> int:
    """Judge from a recording which registers may wait in a ring, and count the exits saved.

    The verdicts rest on the recording alone, not on a model of the device. If the recording shows
    exits, each write in a zone is compared with the prediction of the ring's rules.
    """
    from coalesced.tools.advise import advice, files  # noqa: PLC0415 - start-up time
    from coalesced.tools.advise.names import Map  # noqa: PLC0415
    from coalesced.tools.advise.ring import ring_of  # noqa: PLC0415
    from coalesced.tools.runs.ranges import zone_of  # noqa: PLC0415

    if accel is Accel.direct:
        raise BadInput("--accel direct: it has no ring to verify")
    if not verify and (device or accel is not Accel.process):
        raise BadInput("--device and --accel need --verify")
    limit = staleness_of(staleness)
    cost = _given_cost(exit_ns) if exit_ns else None
    if cost is None and not zones:
        cost = _measured_cost()
    options = advice.Options(
        [zone_of("--zone", text) for text in zone] if zone else None,
        1 << 62 if limit is None else round(limit * 1e9),
        cost,
        Map.read(names) if names else Map(),
        ring_of(kernel),
    )
    paths = [find(trace) for trace in traces]
    inputs = {f"the recording {path}": path for path in paths} | {"--map's": names}
    _check_outputs({"--html": page, "--perfetto": perfetto}, inputs)
    prover = _prover(device, accel) if verify else None
    if len(paths) > 1:
        result = _together(paths, options, jobs, scheduler, prover)
        files.write(_read(paths, jobs, scheduler), result, page, perfetto)
        return _show(result, zones, json)
    (recording,) = _read(paths, jobs, scheduler)
    if prover is not None:
        result = prover.of_one(recording, options)
    else:
        result = advice.advise(recording, options)
    files.write([recording], result, page, perfetto)
    return _show(result, zones, json)


def _prover(device: list[str] | None, accel: Accel) -> Prover:
    from coalesced.tools.advise.proof import Prover  # noqa: PLC0415 - machines

    return Prover(device, accel)


def _read(paths: list[Path], jobs: int, scheduler: str | None) -> Iterator[Recording]:
    """The recordings, one after the other."""
    from coalesced.tools.advise import recording, spread  # noqa: PLC0415 - start-up time

    for path in paths:
        with spread.scanners(jobs, scheduler) as scanners:
            found = recording.read(path, scanners)
        yield found


def _check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    from coalesced.tools.runs.outputs import check_apart  # noqa: PLC0415 - start-up time

    check_apart(outputs, inputs)
    for option, output in outputs.items():
        if output is not None:
            check_writable(option, output)


def _together(
    paths: list[Path], options: Options, jobs: int, scheduler: str | None, prover: Prover | None
) -> Advice:
    from coalesced.tools.advise import fleet, spread  # noqa: PLC0415 - start-up time

    for path in paths:
        if path == Path("-") or path.is_fifo():  # it is read twice, and by another process
            raise BadInput(f"{path}: a pipe must be the only recording: save it to a file")
    over: fleet.Spread = spread.Processes(jobs or spread.default_count())
    if scheduler is not None:
        over = spread.Cluster(scheduler)

    def study(options: Options) -> Advice:
        return fleet.advise_all(paths, options, over)

    if prover is None:
        return study(options)
    return prover.of_all(lambda: _read(paths, jobs, scheduler), options, study)


def _show(result: Advice, zones: ZonesForm | None, json: bool) -> int:
    """Print it; the exit status."""
    from coalesced.tools.advise import report  # noqa: PLC0415 - start-up time
    from coalesced.tools.advise.members import members  # noqa: PLC0415
    from coalesced.tools.runs.json_members import print_json  # noqa: PLC0415

    if json:
        print_json(members(result))
    elif zones:
        print(report.zones_as(zones.value, result.advised))
    else:
        print("\n".join(report.lines(result)))
    return 0 if result.verified is None or result.verified.ok else 1


def _given_cost(text: str) -> ExitCost:
    """The cost of --exit-ns. Raises BadInput."""
    from coalesced.tools.advise.advice import ExitCost  # noqa: PLC0415 - start-up time
    from coalesced.tools.bench import exits, saved  # noqa: PLC0415

    try:
        ns = float(text)
    except ValueError:
        wanted = [exits.key_of(placement, "adaptive") for placement in ("split", "same")]
        name, us = saved.samples("--exit-ns", Path(text), "exit", wanted)
        return ExitCost(statistics.median(us) * 1e3, f"{printable(text)}, {name}")
    if not 0 < ns < NS_MAX:
        raise BadInput(f"--exit-ns {text}: expected above 0 to {NS_MAX:,} nanoseconds, or a file")
    return ExitCost(ns, "--exit-ns")


def _measured_cost() -> ExitCost | None:
    """The cost of an exit on this machine; None where no guest process can be started."""
    from coalesced.hv.errors import HostError  # noqa: PLC0415 - start-up time
    from coalesced.tools.advise.advice import ExitCost  # noqa: PLC0415
    from coalesced.tools.bench import exits  # noqa: PLC0415

    try:
        return ExitCost(exits.shortly(), "measured now: a load, --wait adaptive")
    except HostError:
        return None


EPILOG = "Examples: coalesced advise e1000; coalesced advise kvm.txt.xz --zones c. Record with: "


def register(app: typer.Typer) -> None:
    """Add `advise` to the program."""
    app.command("advise", epilog=EPILOG + "; ".join(each.record for each in FORMATS))(advise)
