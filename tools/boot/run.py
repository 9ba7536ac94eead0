"""Boots an image with coalescing on and off, and compares the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from coalesced.hv.cpu.guest import GUEST
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.machine import Hardware, build
from coalesced.tools.boot.until import Until, Watch
from coalesced.tools.runs.comparison import Screen, comparison, run_each, screen_of
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.options import Picture, RunOptions
from coalesced.tools.runs.outputs import save_picture
from coalesced.tools.runs.results import Comparison
from coalesced.tools.runs.runner import Job, Ran
from coalesced.vmm.board import Board
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
    serial: bytearray


def boot(
    image: Image, hardware: Hardware, options: RunOptions, until: Until, picture: Picture | None
) -> Boot:
    """Run the image in every combination. Raises what `run_job` raises, BadInput."""
    job = Job(GUEST, {}, partial(_start, image, hardware, until), _seen, machine_code=True)
    ran = run_each(image.name, job, options)
    first = ran[0].seen
    result = replace(
        comparison(image.name, options, ran),
        identical=_alike(ran),
        png=save_picture(picture, first.screen),
    )
    return Boot(result, first.text, first.serial, first.stopped_by)


def _start(image: Image, hardware: Hardware, until: Until, machine: Machine) -> _Running:
    serial = bytearray()
    board = build(machine, hardware, image)
    return _Running(board, Watch(machine, board, until, serial), serial)


def _seen(machine: Machine, running: _Running) -> Seen:
    screen = screen_of(machine, running.board)
    lines = running.board.displays[0].text() if running.board.displays else None
    text = "\n".join(line.rstrip() for line in lines or ()).rstrip("\n")
    serial = running.serial.decode(errors="replace")
    return Seen(screen, text, serial, running.watch.stopped_by)


def _alike(ran: Sequence[Ran[Seen]]) -> bool:
    first = ran[0].seen
    return all(
        (each.seen.text, each.seen.serial) == (first.text, first.serial)
        and _same(each.seen.screen, first.screen)
        for each in ran
    )


def _same(one: Screen | None, other: Screen | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
