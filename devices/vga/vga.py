"""The VGA as a device: its ports, its window, its picture."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.bus.region import Region
from coalesced.devices.vga.layout import WINDOW_SIZE
from coalesced.devices.vga.memory import PlanarMemory
from coalesced.devices.vga.port_names import port_name
from coalesced.devices.vga.ports import PORT_COUNT, Ports
from coalesced.devices.vga.registers import GR6_GRAPHICS, GR_MISC, Registers
from coalesced.devices.vga.render import render
from coalesced.devices.vga.text import text_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from coalesced.devices.bus.device import StateValue

SMALLEST_VRAM: Final = 256 << 10
"""Bytes that an IBM VGA has, and that the display addresses."""


class Vga:
    """A VGA without extensions, at its legacy addresses, behaving like QEMU 7.2's.

    The parts are public for chips that build upon it: `registers`, `port_decoder` and `memory`.
    """

    name = "vga"

    def __init__(self, vram_size: int = 16 << 20) -> None:
        """`vram_size` is in bytes, a power of two, at least 256 KiB."""
        if vram_size < SMALLEST_VRAM or vram_size & (vram_size - 1):
            raise ValueError(
                f"expected a vram_size that is a power of two and at least {SMALLEST_VRAM:#x}, "
                f"got {vram_size:#x}"
            )
        self.vram: NDArray[np.uint8] = np.zeros(vram_size, np.uint8)
        self.registers = Registers()
        self.port_decoder = Ports(self.registers)
        self.memory = PlanarMemory(self.registers, self.vram)
        self.window = Region(
            "vga-lowmem",
            WINDOW_SIZE,
            self.memory.read,
            self.memory.write,
            coalesced=((0, WINDOW_SIZE),),
            flush=True,
            take_run=self.memory.take_run,
        )
        self.ports = Region(
            "vga",
            PORT_COUNT,
            self.port_decoder.read,
            self.port_decoder.write,
            flush=True,
            register=partial(port_name, self.registers),
        )

    def reset(self) -> None:
        """Clear every register; video memory keeps its contents, as it does in QEMU."""
        self.registers.reset()

    def state(self) -> Mapping[str, StateValue]:
        """Registers, indices, latch, palette and video memory (`vram`, which aliases it)."""
        state = self.registers.state()
        state["vram"] = self.vram.data.toreadonly()
        return state

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3).

        The cursor is visible for 8 frames and hidden for 8, blinking characters for 16 each;
        frame 0 shows both.
        """
        return render(self.registers, self.memory.words, frame)

    def text(self) -> list[str] | None:
        """Return the rows of a text screen, trailing blanks stripped; None in graphics modes.

        Characters are those of code page 437. Whether the screen is blanked does not matter.
        """
        if self.registers.gr[GR_MISC] & GR6_GRAPHICS:
            return None
        return text_rows(self.registers, self.memory.words)
