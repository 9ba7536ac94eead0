"""Runs one guest with coalescing on, off, and direct, and compares the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import guest
from coalesced.hv.errors import DeviceError
from coalesced.tools.errors import Interrupted
from coalesced.tools.runs import boards, progress, report
from coalesced.tools.runs.options import Accel, NetworkOptions, Picture, RunOptions
from coalesced.tools.runs.outputs import save_picture, trace_file
from coalesced.tools.runs.recorded import once, recorder
from coalesced.tools.runs.results import Comparison, Run, Savings, same_state
from coalesced.tools.runs.runner import BoardT, Job, Ran, SeenT, run_job
from coalesced.vmm import pc
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

Screen = NDArray[np.uint8]


def combinations(options: RunOptions) -> list[RunOptions]:
    """The options of each run: coalescing on, off, and direct, as far as they are wanted.

    `direct` has one vCPU only. Only the first one is traced and explained.
    """
    first = replace(options, coalesce=options.coalesce and options.accel != Accel.direct)
    plain = replace(options, coalesce=False, trace=None, explain=None)
    direct = replace(plain, accel=Accel.direct)
    if options.accel == Accel.direct:
        return [first]
    others = [plain] if first.coalesce else []
    return [first, *others, *([direct] if options.vcpus == 1 else [])]


def board_of(
    specs: Sequence[str], network: NetworkOptions | None = None
) -> Callable[[Machine], Board]:
    """A function that builds a PC with these devices; it raises BadInput for a wrong SPEC.

    Of several machines only the first one's frames are recorded.
    """
    networks = chain([network], repeat(network and replace(network, pcap=None)))
    return lambda machine: boards.board(machine, list(specs), pc.DEFAULT_MEMORY, next(networks))


def screen_of(machine: Machine, board: Board) -> Screen | None:
    """The first display's picture after a flush; None without a display. Raises DeviceError."""
    machine.flush()
    if not board.displays:
        return None
    try:
        return board.displays[0].render()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DeviceError(board.displays[0].name, "render()", guest.describe(error)) from error


def compare(
    name: str, job: Job[Board, Screen | None], options: RunOptions, picture: Picture | None
) -> tuple[Comparison, Screen | None]:
    """Run the job in every combination, save the first screen; the comparison and that screen.

    Raises what `run_job` raises, and BadInput when a file cannot be written.
    """
    ran = run_each(name, job, combinations(options))
    screen = ran[0].seen
    result = comparison(name, options, ran)
    return replace(result, png=save_picture(picture, screen)), screen


def run_each(name: str, job: Job[BoardT, SeenT], wanted: Sequence[RunOptions]) -> list[Ran[SeenT]]:
    """Run the job with each of the options, as those of `combinations`."""
    ran: list[Ran[SeenT]] = []
    # A guest that runs as machine code is recorded once for all its runs.
    job = replace(job, record=once(job.record or recorder(job, wanted[0].vcpus)))
    with progress.shown(len(wanted)) as bar:
        bar.show(name)
        for each in wanted:
            try:
                with trace_file(each.trace) as trace:
                    ran.append(run_job(job, each, trace))
            except Interrupted as error:
                place = f"run {len(ran) + 1} of {len(wanted)}: {error}"
                raise Interrupted(
                    "; ".join([place, *map(report.one_line, runs_of(ran))])
                ) from error
            bar.advance()
    return ran


def runs_of(ran: Sequence[Ran[SeenT]]) -> list[Run]:
    """The runs alone."""
    return [each.run for each in ran]


def comparison(name: str, options: RunOptions, ran: Sequence[Ran[SeenT]]) -> Comparison:
    """The runs of one guest, compared."""
    runs = runs_of(ran)
    return Comparison(name, options.accel, runs, Savings.of(runs), same_state(runs), ran[0].hottest)
