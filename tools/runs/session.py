"""Runs of one guest with coalescing on, off, and direct: what `demo` and `run` share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.errors import DeviceError
from coalesced.tools.commands.options import NetworkOptions, Picture, RunOptions, warn_of_picture
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs import report
from coalesced.tools.runs.outputs import trace_file
from coalesced.tools.runs.recorded import once, recorder
from coalesced.tools.runs.runner import BoardT, Job, SeenT, hottest, run_job
from coalesced.vmm import pc
from coalesced.vmm.board import Board
from coalesced.vmm.display.png import write_png
from coalesced.vmm.machine import Machine

Screen = NDArray[np.uint8]
Hottest = list[dict[str, object]]


@contextlib.contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; gives what to call after each step."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda: progress.advance(task)


def combinations(options: RunOptions) -> list[tuple[str, bool]]:
    """(accelerator, coalescing) of each run: on, off, and direct, as far as they are wanted."""
    if options.accel == "direct":
        return [("direct", False)]
    runs = [(options.accel, True)] if options.coalesce else []
    return [*runs, (options.accel, False), ("direct", False)]


def board_of(
    specs: Sequence[str], network: NetworkOptions | None = None
) -> Callable[[Machine], Board]:
    """What builds a PC with these devices; raises BadInput for a SPEC that cannot be used.

    Of several machines the first one's frames are written down.
    """
    networks = chain([network], repeat(network and replace(network, pcap=None)))
    return lambda machine: devices.board(machine, list(specs), pc.DEFAULT_MEMORY, next(networks))


def screen_of(machine: Machine, board: Board) -> Screen | None:
    """What the first display shows once every queued write has arrived; None without one."""
    machine.flush()
    if not board.displays:
        return None
    try:
        return board.displays[0].render()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DeviceError(board.displays[0].name, "render()", error) from error


def run_all(
    name: str, job: Job[Board, Screen | None], options: RunOptions, picture: Picture | None
) -> tuple[dict[str, object], Screen | None]:
    """Run the job in every combination: the JSON object of `demo` and `run`, the first screen.

    `--trace` writes the first run down. Raises what `run_job` raises, BadInput when a file cannot
    be written.
    """
    runs, hot, screens = run_each(name, job, options)
    result = result_of(name, options, runs, hot)
    return {**result, "png": save_picture(picture, screens[0])}, screens[0]


def run_each(
    name: str, job: Job[BoardT, SeenT], options: RunOptions
) -> tuple[list[report.Run], Hottest, list[SeenT]]:
    """Run the job in every combination: its runs, where the first one exited, what was seen."""
    runs: list[report.Run] = []
    hot: list[Hottest] = []
    seen: list[SeenT] = []
    wanted = combinations(options)
    # A guest that runs as machine code is recorded once for all its runs.
    job = replace(job, record=once(job.record or recorder(job)))
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(_progress(name, len(wanted)))
        for accel, coalesce in wanted:
            try:
                with trace_file(None if runs else options.trace) as trace:
                    run, counted, found = run_job(job, options, accel, coalesce, trace)
            except Interrupted as error:
                raise Interrupted(_until_then(error, runs, len(wanted))) from error
            runs.append(run)
            hot.append(hottest(counted))
            seen.append(found)
            advance()
    return runs, hot[0], seen


def _until_then(error: Interrupted, runs: list[report.Run], wanted: int) -> str:
    """How far the run came that Ctrl-C ended, and what the ones before it have counted."""
    return "; ".join([f"run {len(runs) + 1} of {wanted}: {error}", *map(report.one_line, runs)])


def result_of(
    name: str, options: RunOptions, runs: list[report.Run], hot: Hottest
) -> dict[str, object]:
    """The JSON object of the runs of one guest."""
    return {
        "guest": name,
        "accel": options.accel,
        "runs": runs,
        "savings": report.savings(runs),
        "identical": report.identical(runs),
        "hottest": hot,
        "png": None,
    }


def save_picture(picture: Picture | None, screen: Screen | None) -> str | None:
    """Write a screen where it is wanted; the file's name. Raises BadInput as `save` does."""
    if picture is None:
        return None
    try:
        save(picture.path, screen)
    except BadInput as error:
        if picture.asked:
            raise
        warn_of_picture(error)
        return None
    return str(picture.path)


def save(png: Path, screen: Screen | None) -> None:
    """Write a screen as PNG. Raises BadInput when there is none or the file cannot be written."""
    if screen is None:
        raise BadInput(f"--png {png}: no device of this machine has a screen")
    try:
        write_png(png, screen)
    except OSError as error:
        raise BadInput(f"--png {png}: {error.strerror or error}") from error


def say(
    title: str, result: dict[str, object], as_json: bool, extra: Callable[[], None] | None = None
) -> int:
    """Print a result; the exit status as of `status_of`."""
    runs = result["runs"]
    hot = result["hottest"]
    assert isinstance(runs, list)
    assert isinstance(hot, list)
    if as_json:
        report.print_json(result)
    else:
        report.print_runs(title, runs)
        report.print_savings(runs)
        report.print_identical(runs)
        report.print_hottest(hot)
        if result["png"] is not None:
            print(f"The screen: {result['png']}")
        if extra is not None:
            extra()
    return status_of(result)


def status_of(result: dict[str, object]) -> int:
    """The exit status: 1 when the states differ, a device raised or a load gave what it should
    not, which goes to stderr."""
    runs = result["runs"]
    assert isinstance(runs, list)
    report.print_failures(runs)
    failed = any(run["failed_writes"] or report.mismatching(run) for run in runs)
    return 0 if result["identical"] and not failed else 1
