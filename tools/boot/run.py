"""Boots an image with coalescing on and off, and compares the runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from coalesced.devices.uart import Uart
from coalesced.hv.cpu.guest import GUEST
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.machine import Hardware, build
from coalesced.tools.boot.serial import STDIO, Serial, Target, write_file
from coalesced.tools.boot.until import Until, Watch
from coalesced.tools.runs.comparison import Screen, comparison, run_each, screen_of
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.options import Picture, RunOptions
from coalesced.tools.runs.outputs import save_picture
from coalesced.tools.runs.results import Comparison
from coalesced.tools.runs.runner import Job, Ran
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import parse_spec
from coalesced.vmm.machine import Machine


@dataclass(frozen=True)
class Seen:
    """What a run left: the picture, the lines of a text screen, serial output, and its end."""

    screen: Screen | None
    text: str
    serial: str
    stopped_by: str


@dataclass(frozen=True)
class Boot:
    """The runs of one image. `identical` compares screens and serial output: time is in RAM."""

    comparison: Comparison = field(metadata=INLINE)
    text: str
    serial: str
    stopped_by: str


@dataclass
class _Running:
    """A board that runs, and what watches it."""

    board: Board
    watch: Watch
    serial: Serial


@dataclass(frozen=True)
class Plan:
    """An image, its machine, when it is done, and where its serial line goes.

    `serial`: --serial; of STDIO `terminal` shows what comes over the line, and there is one run.
    """

    image: Image
    hardware: Hardware
    until: Until
    serial: str
    terminal: Target


def boot(plan: Plan, options: RunOptions, picture: Picture | None) -> Boot:
    """Run the image in every combination. Raises what `run_job` raises, BadInput."""
    on_terminal = plan.serial == STDIO
    job = Job(GUEST, {}, partial(_start, plan), _seen, once=on_terminal, machine_code=True)
    image = plan.image
    ran = run_each(image.name, job, options)
    first = ran[0].seen
    write_file(plan.serial, first.serial.encode("latin-1"))
    result = replace(
        comparison(image.name, options, ran),
        identical=_alike(ran),
        png=save_picture(picture, first.screen),
    )
    return Boot(result, first.text, first.serial, first.stopped_by)


def _start(plan: Plan, machine: Machine) -> _Running:
    board = build(machine, plan.hardware, plan.image)
    uart = Uart()
    board.add(uart, parse_spec("isa-serial"))
    if plan.serial == STDIO:
        serial = Serial(uart, plan.terminal)
        if sys.stdin is not None:  # it was closed
            serial.read_from(sys.stdin.fileno(), machine.loop)
    else:
        serial = Serial(uart)
    return _Running(board, Watch(machine, board, plan.until, serial.output), serial)


def _seen(machine: Machine, running: _Running) -> Seen:
    screen = screen_of(machine, running.board)
    lines = running.board.displays[0].text() if running.board.displays else None
    text = "\n".join(line.rstrip() for line in lines or ()).rstrip("\n")
    # A byte for each character: what a guest sends need not be UTF-8.
    return Seen(screen, text, running.serial.output.decode("latin-1"), running.watch.stopped_by)


def _alike(ran: Sequence[Ran[Seen]]) -> bool:
    first = ran[0].seen
    return all(
        (each.seen.text, each.seen.serial) == (first.text, first.serial)
        and _same(each.seen.screen, first.screen)
        for each in ran
    )


def _same(one: Screen | None, other: Screen | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
