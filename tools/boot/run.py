"""Boots an image with coalescing on and off, or in two worlds, and compares the runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from coalesced.devices.uart import Uart
from coalesced.hv.cpu.guest import GUEST
from coalesced.tools.boot import exits
from coalesced.tools.boot.against import Against, Causes, Row, against, rows
from coalesced.tools.boot.exits import Log
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.keys import Typed, Typist
from coalesced.tools.boot.machine import Hardware, build
from coalesced.tools.boot.serial import STDIO, Serial, Target, write_file
from coalesced.tools.boot.until import TIME, Output, Until, Watch
from coalesced.tools.runs.comparison import (
    Screen,
    combinations,
    comparison,
    run_each,
    screen_of,
)
from coalesced.tools.runs.json_members import INLINE, OPTIONAL
from coalesced.tools.runs.options import Accel, Picture, RunOptions
from coalesced.tools.runs.outputs import save_picture
from coalesced.tools.runs.results import Comparison, Savings
from coalesced.tools.runs.runner import Job, Ran
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import parse_spec
from coalesced.vmm.machine import Machine


@dataclass(frozen=True)
class Seen:
    """The results of a run: picture, lines of a text screen, serial output, reason of its end."""

    screen: Screen | None
    text: str
    serial: str
    stopped_by: str
    exits: Counter[tuple[str, str]]  # by reason and place
    log: Log | None


@dataclass(frozen=True)
class Boot:
    """The runs of one image. `identical` compares screens and serial output: time is in RAM.

    Where time stopped a run, they may differ, and nothing is said about savings.
    """

    comparison: Comparison = field(metadata=INLINE)
    text: str
    serial: str
    stopped_by: str
    places: Sequence[Row]  # the exits of each run
    against: Against | None = field(default=None, metadata=OPTIONAL)

    @property
    def ok(self) -> bool:
        """Whether the runs agree."""
        return self.comparison.ok and (self.against is None or self.against.ok)


@dataclass
class Running:
    """A board that runs, and what watches it."""

    board: Board
    watch: Watch
    serial: Serial
    log: Log | None


@dataclass(frozen=True)
class World:
    """An implementation outside this program. `log`: its exits, given those of a run here."""

    name: str
    log: Callable[[Log], Log]
    causes: Causes  # for which it differs from a run here


@dataclass(frozen=True)
class Plan:
    """An image, its machine, when it is done, and where its serial line goes.

    `serial`: --serial; of STDIO `terminal` shows what comes over the line, and there is one run.
    `against`: the accelerator of a second world, whose run takes the place of that without
    coalescing, or another world.
    """

    image: Image
    hardware: Hardware
    until: Until
    serial: str
    terminal: Target
    against: Accel | World | None = None
    keys: Sequence[Typed] = ()

    def runs(self, options: RunOptions) -> list[RunOptions]:
        """The options of each run; machine code has no direct one."""
        first, *others = combinations(options)
        if self.serial == STDIO:
            return [first]
        if isinstance(self.against, Accel):
            return [first, replace(first, accel=self.against, trace=None, explain=None)]
        if self.against is not None:
            return [first]
        return [first, *(each for each in others if each.accel != Accel.direct)]


def boot(plan: Plan, options: RunOptions, picture: Picture | None) -> Boot:
    """Run the image as planned. Raises what `run_job` raises, BadInput."""
    image = plan.image
    ran = run_each(image.name, job(plan), plan.runs(options))
    first = ran[0].seen
    write_file(plan.serial, first.serial.encode("latin-1"))
    result = replace(
        comparison(image.name, options, ran),
        identical=_alike(ran),
        png=save_picture(picture, first.screen),
    )
    stopped = any(each.seen.stopped_by == TIME for each in ran)
    if stopped:  # each at another point of the guest's program
        result = replace(result, savings=Savings(), identical=result.identical or None)
    places = rows([each.seen.exits for each in ran], {})
    worlds = _compared(plan, ran, stopped)
    stopped_by = TIME if stopped else first.stopped_by
    return Boot(result, first.text, first.serial, stopped_by, places, worlds)


def job(plan: Plan) -> Job[Running, Seen]:
    """The image as a guest."""
    return Job(GUEST, {}, partial(_start, plan), _seen, machine_code=True)


def _compared(plan: Plan, ran: Sequence[Ran[Seen]], stopped: bool) -> Against | None:
    logs = [each.seen.log for each in ran if each.seen.log is not None]
    names = [each.run.accel for each in ran]
    if isinstance(plan.against, World):
        other = plan.against
        return against([*names, other.name], [*logs, other.log(logs[0])], other.causes, stopped)
    return None if plan.against is None else against(names, logs, {}, stopped)


def _start(plan: Plan, machine: Machine) -> Running:
    board = build(machine, plan.hardware, plan.image)
    uart = Uart()
    board.add(uart, parse_spec("isa-serial"))
    if plan.serial == STDIO:
        serial = Serial(uart, plan.terminal)
        if sys.stdin is not None:  # it was closed
            serial.read_from(sys.stdin.fileno(), machine.loop)
    else:
        serial = Serial(uart)
    output = Output(board, serial.output)
    Typist(board.i8042.keyboard, list(plan.keys), machine.loop, output.shows)
    log = exits.watch(machine, board) if plan.against is not None else None
    return Running(board, Watch(machine, plan.until, output), serial, log)


def _seen(machine: Machine, running: Running) -> Seen:
    screen = screen_of(machine, running.board)
    lines = running.board.displays[0].text() if running.board.displays else None
    text = "\n".join(line.rstrip() for line in lines or ()).rstrip("\n")
    # A byte for each character: what a guest sends need not be UTF-8.
    serial = running.serial.output.decode("latin-1")
    counted = exits.counts_of(machine)
    return Seen(screen, text, serial, running.watch.stopped_by, counted, running.log)


def _alike(ran: Sequence[Ran[Seen]]) -> bool:
    first = ran[0].seen
    return all(
        (each.seen.text, each.seen.serial) == (first.text, first.serial)
        and _same(each.seen.screen, first.screen)
        for each in ran
    )


def _same(one: Screen | None, other: Screen | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
