"""Runs the accesses of a recorded trace as the guest and checks the value of every load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.pci import BASE_ADDRESS_0, COMMAND, COMMAND_IO, COMMAND_MEMORY
from coalesced.hv.abi import OP, PAGE_SIZE
from coalesced.tools.guests.replay import PROGRAM
from coalesced.tools.runs.comparison import board_of, screen_of
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.options import Picture, RunOptions
from coalesced.tools.runs.outputs import save_picture, trace_file
from coalesced.tools.runs.recorded import as_trace
from coalesced.tools.runs.results import Run
from coalesced.tools.runs.runner import Job, Ran, run_job
from coalesced.tools.traces import loads, missing
from coalesced.tools.traces.accesses import Counted
from coalesced.tools.traces.trace import Trace, shown
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.kvm import KvmAccelerator
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

Masks = Mapping[str, NDArray[np.bool_]]

MISMATCHES_SHOWN = 10
NOT_HERE = " (not on this machine)"


@dataclass(frozen=True)
class Mismatch:
    """A load that gave another value than the recorded one."""

    line: int  # of the trace
    name: str  # of the region
    address: int
    size: int
    expected: int
    got: int


@dataclass(frozen=True)
class SkippedLine:
    """A line of the trace that is no access."""

    line: int
    text: str


@dataclass(frozen=True)
class TextScreen:
    """The rows of the screen; None in a graphics mode."""

    text: list[str] | None


@dataclass(frozen=True)
class Replay:
    """A replay of a trace, and how its loads compare with the recording.

    `counted` to `first_skipped` are about the lines of the trace; `writes` and `reads` are its
    accesses. `unchecked` counts loads that are not compared, `masked` those of which some bits are
    not.
    """

    run: Run = field(metadata=INLINE)
    trace: str
    accesses: int
    counted: Counted = field(metadata=INLINE)
    apart: Mapping[str, int]
    string_accesses: Mapping[str, int]  # by port; left out
    skipped: int
    first_skipped: SkippedLine | None
    writes: int
    reads: int
    exits_without_coalescing: int
    reads_checked: int
    reads_matching: int
    unchecked: Mapping[str, int]
    masked: Mapping[str, int]
    missing_regions: Mapping[str, int]
    missing_functions: Mapping[str, int]
    mismatches: Sequence[Mismatch]  # the first ten
    png: str | None
    screen: TextScreen | None = field(default=None, metadata=INLINE)  # where it was asked for


class Stage(NamedTuple):
    """A PC, and the RAM outside the machine that holds the program."""

    board: Board
    program: GuestMemory | None  # None: the guest is machine code


class Seen(NamedTuple):
    """The machine after the replay."""

    values: NDArray[np.uint64]  # of each access
    named: Trace  # the recording, with the names of unnamed regions as they are at the end
    regions: Masks  # that the machine lacks: the accesses to them
    functions: Masks  # the same for PCI functions
    screen: NDArray[np.uint8] | None
    text: list[str] | None

    @property
    def left_out(self) -> Masks:
        """The accesses to devices that the machine lacks, by name."""
        return {f"{name}{NOT_HERE}": m for name, m in {**self.functions, **self.regions}.items()}


def replay(
    recorded: Trace, specs: list[str], options: RunOptions, picture: Picture | None, text: bool
) -> Replay:
    """Replay on a PC with these devices. Raises what `run_job` raises."""
    ran = run_once(recorded, specs, options)
    png = None if ran.seen.screen is None else save_picture(picture, ran.seen.screen)
    return _result(recorded, ran, png, TextScreen(ran.seen.text) if text else None)


def run_once(recorded: Trace, specs: list[str], options: RunOptions) -> Ran[Seen]:
    """Run the accesses on a PC with these devices. Raises what `run_job` raises."""
    with trace_file(options.trace) as trace:
        return run_job(job(recorded, specs), options, trace)


def job(recorded: Trace, specs: list[str]) -> Job[Stage, Seen]:
    """The accesses as a guest, on a PC with these devices."""
    ops = recorded.ops
    size = max(-(-ops.nbytes // PAGE_SIZE), 1) * PAGE_SIZE

    def build(machine: Machine) -> Stage:
        board = board_of(specs)(machine)
        _place_bars(board, recorded)
        if isinstance(machine.accel, KvmAccelerator):
            return Stage(board, None)
        return Stage(board, machine.add_ram(PROGRAM, size, declared=False))

    def load_program(_machine: Machine, stage: Stage) -> None:
        if stage.program is not None:
            stage.program.write(0, ops.tobytes())

    def inspect(machine: Machine, stage: Stage) -> Seen:
        screen = screen_of(machine, stage.board)
        displays = stage.board.displays
        return Seen(
            _values(machine, stage, recorded),
            _named(machine, recorded),
            missing.regions(machine, recorded),
            missing.functions(stage.board, recorded),
            screen,
            displays[0].text() if displays else None,
        )

    return Job(
        "coalesced.tools.guests.replay:run",
        {"count": len(ops)},
        build,
        inspect,
        load_program,
        record=lambda _guest, _arguments: [Recording([ops])],
    )


def _values(machine: Machine, stage: Stage, recorded: Trace) -> NDArray[np.uint64]:
    """The values of the accesses, with those of the loads in this run."""
    if stage.program is not None:
        return np.frombuffer(stage.program.read(0, recorded.ops.nbytes), dtype=OP)["value"]
    values: NDArray[np.uint64] = recorded.ops["value"].copy()
    if isinstance(machine.accel, KvmAccelerator):
        values[recorded.reads] = machine.accel.loads()[1]
    return values


def _named(machine: Machine, recorded: Trace) -> Trace:
    if "unnamed" not in recorded.names:
        return recorded
    reached = as_trace(machine, recorded.ops)
    return replace(recorded, names=reached.names, region=reached.region)


def _place_bars(board: Board, recorded: Trace) -> None:
    """Place each BAR that the guest does not place: where its first access to that region is."""
    config = missing.Config.of(recorded)
    for place, function in board.bus.functions().items():
        for number, bar in function.bars.items():
            named = [
                index
                for index, name in enumerate(recorded.names)
                if name != "unnamed" and missing.is_region(name, bar.region)
            ]
            found = np.flatnonzero(np.isin(recorded.region, named))
            if not len(found) or config.places_bar(*place, number):
                continue
            base = int(recorded.ops["address"][found[0]]) & ~(bar.region.size - 1)
            function.config_write(BASE_ADDRESS_0 + 4 * number, 4, base & 0xFFFFFFFF)
            decode = COMMAND_IO if bar.io else COMMAND_MEMORY
            function.config_write(COMMAND, 2, function.command | decode)


def _result(recorded: Trace, ran: Ran[Seen], png: str | None, screen: TextScreen | None) -> Replay:
    run, seen, first = ran.run, ran.seen, recorded.first_foreign
    reads = recorded.reads
    compared = loads.compare(recorded, seen.values, seen.left_out)
    wrong = compared.wrong(MISMATCHES_SHOWN)
    return Replay(
        run=replace(run, loads=None),  # `mismatches` has them, with the lines of the trace
        trace=str(recorded.path),
        accesses=len(reads),
        counted=recorded.counted,
        apart=dict(recorded.apart),
        string_accesses=dict(recorded.strings),
        skipped=recorded.foreign,
        first_skipped=SkippedLine(first.line, shown(first)) if first else None,
        writes=int((~reads).sum()),
        reads=int(reads.sum()),
        exits_without_coalescing=run.exits + run.coalesced,
        reads_checked=int(compared.checked.sum()),
        reads_matching=compared.matching,
        unchecked=compared.unchecked,
        masked=compared.masked,
        missing_regions=_counts(seen.regions),
        missing_functions=_counts(seen.functions),
        mismatches=[_mismatch(recorded, index, int(seen.values[index])) for index in wrong],
        png=png,
        screen=screen,
    )


def _counts(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _mismatch(recorded: Trace, index: int, got: int) -> Mismatch:
    _, size, address, value = recorded.ops[index].item()
    name = recorded.names[recorded.region[index]]
    return Mismatch(int(recorded.lines[index]), name, address, size, value, got)
