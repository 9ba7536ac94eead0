"""The demonstrations without a network: guests that draw on a display card."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np

from coalesced.tools.guests import picture as pictures
from coalesced.tools.runs.comparison import board_of, compare, screen_of
from coalesced.tools.runs.options import Picture, RunOptions
from coalesced.tools.runs.results import Comparison
from coalesced.tools.runs.runner import Job
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

FRAMES: Final = 10_000
"""Frames in each direction of the exchange over an 82540EM (`runs.e1000`)."""
BURST: Final = 32
"""Frames of it that are under way at once."""


class Chip(StrEnum):
    """A display card, by QEMU's name."""

    vga = "VGA"
    isa_vga = "isa-vga"
    vga_mm = "vga_mm"
    cirrus = "cirrus-vga"
    isa_cirrus = "isa-cirrus-vga"


# The memory-mapped card lies where tools.guests.vga_mm expects it.
_SPECS = {
    Chip.vga: "VGA,addr=02.0",
    Chip.isa_vga: "isa-vga",
    Chip.vga_mm: "vga_mm,ctrl_base=0xe0000000,vram_base=0xe1000000,it_shift=2",
    Chip.cirrus: "cirrus-vga,addr=02.0",
    Chip.isa_cirrus: "isa-cirrus-vga",
}


def vga(chip: Chip, options: RunOptions, png: Picture | None) -> Comparison:
    """Draw the demonstration picture with planar writes in mode 12h."""
    job = Job(f"{_guest(chip)}:draw", {}, board_of([_SPECS[chip]]), screen_of)
    return compare("vga", job, options, png)[0]


def cirrus(options: RunOptions, png: Picture | None) -> Comparison:
    """Draw with planar and linear writes and with the blitter."""
    board = board_of([_SPECS[Chip.cirrus]])
    job = Job("coalesced.tools.guests.cirrus:draw", {}, board, screen_of)
    return compare("cirrus", job, options, png)[0]


def image(chip: Chip, file: Path, options: RunOptions, png: Picture | None) -> Comparison:
    """Draw a picture file and compare the screen with it. Raises BadInput for the file."""
    wanted = pictures.load(file)

    def write_rom(machine: Machine, _board: Board) -> None:
        wanted.write_to(machine.ram)

    board, arguments = board_of([_SPECS[chip]]), {"address": pictures.ADDRESS}
    job = Job(f"{_guest(chip)}:draw_image", arguments, board, screen_of, write_rom)
    result, screen = compare("vga", job, options, png)
    equal = screen is not None and np.array_equal(screen, wanted.rgb())
    if not equal:
        sys.stderr.write(f"coalesced: the screen differs from {file}\n")
    return replace(result, image_equal=equal)


def _guest(chip: Chip) -> str:
    return f"coalesced.tools.guests.{'vga_mm' if chip is Chip.vga_mm else 'vga'}"
