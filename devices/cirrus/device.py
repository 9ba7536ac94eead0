"""The Cirrus as QEMU's devices `cirrus-vga` (PCI) and `isa-cirrus-vga`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.devices.cirrus.apertures import BAR0_SIZE, DATA_APERTURE, Apertures
from coalesced.devices.cirrus.blitter import Blitter
from coalesced.devices.cirrus.mmio import BAR1_SIZE, MemoryMappedRegisters
from coalesced.devices.cirrus.modes import render
from coalesced.devices.cirrus.ports import CirrusPorts
from coalesced.devices.cirrus.registers import (
    GD5430_ISA,
    GD5446_PCI,
    VRAM_SIZE,
    CirrusRegisters,
    Variant,
)
from coalesced.devices.vga.layout import WINDOW_SIZE
from coalesced.devices.vga.memory import PlanarMemory
from coalesced.devices.vga.port_names import port_name
from coalesced.devices.vga.ports import PORT_BASE, PORT_COUNT
from coalesced.devices.vga.registers import GR6_GRAPHICS, GR_MISC
from coalesced.devices.vga.text import text_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from coalesced.devices.bus.device import StateValue

WINDOW_BASE: Final = 0xA0000
VENDOR_CIRRUS: Final = 0x1013
DEVICE_GD5446: Final = 0x00B8
CLASS_VGA: Final = 0x030000
ROM_SIZE: Final = 0x10000
MEMORY_SIZES: Final = (4 << 20, 8 << 20, 16 << 20)


class CirrusChip:
    """The chip without a bus. Its regions:

    `ports` at 0x3b0, `window` at 0xa0000, `linear` (32 MiB, BAR0) and `mmio` (4 KiB, BAR1). Of
    the linear region writes to memory and to the aperture for data are coalesced, as a guest
    cannot tell when they happen; QEMU maps memory itself there. The ports and BAR1 are not.
    """

    def __init__(self, variant: Variant, vram_size: int = VRAM_SIZE) -> None:
        """`vram_size` in bytes: as in QEMU 4, 8 or 16 MiB, of which the engine reaches a part."""
        if vram_size not in MEMORY_SIZES:
            known = ", ".join(f"{size:#x}" for size in MEMORY_SIZES)
            raise ValueError(f"expected a vram_size of {known}, got {vram_size:#x}")
        self.vram: NDArray[np.uint8] = np.zeros(vram_size, np.uint8)
        self.registers = CirrusRegisters(variant, vram_size)
        self.blitter = Blitter(self.registers, self.vram[: variant.vram_size], vram_size)
        self.port_decoder = CirrusPorts(self.registers, self.blitter)
        self.memory = PlanarMemory(self.registers, self.vram)
        mmio = MemoryMappedRegisters(self.registers, self.port_decoder)
        self.apertures = Apertures(
            self.registers,
            self.vram,
            self.memory,
            self.blitter,
            mmio.read_register,
            mmio.write_registers,
        )
        self.window = Region(
            "cirrus-lowmem-container",
            WINDOW_SIZE,
            self.apertures.read_window,
            self.apertures.write_window,
            coalesced=((0, WINDOW_SIZE),),
            flush=True,
            take_run=self.apertures.take_window_run,
        )
        self.linear = Region(
            "cirrus-pci-bar0",
            BAR0_SIZE,
            self.apertures.read_linear,
            self.apertures.write_linear,
            coalesced=((0, vram_size), (DATA_APERTURE, VRAM_SIZE)),
            flush=True,
            take_run=self.apertures.take_linear_run,
        )
        self.mmio = Region("cirrus-mmio", BAR1_SIZE, mmio.read, mmio.write, flush=True)
        self.ports = Region(
            "cirrus-io",
            PORT_COUNT,
            self.port_decoder.read,
            self.port_decoder.write,
            flush=True,
            register=partial(port_name, self.registers),
        )

    def reset(self) -> None:
        """Registers as QEMU's reset leaves them; memory and a blit that waits for data stay."""
        self.registers.reset()

    def state(self) -> dict[str, StateValue]:
        """Registers, palettes, the blit under way, and `vram`, which aliases video memory."""
        state = self.registers.state()
        state.update(self.blitter.state())
        state["vram"] = self.vram.data.toreadonly()
        return state

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see the VGA's."""
        return render(self.registers, self.vram, frame)

    def text(self) -> list[str] | None:
        """Rows of a text screen, trailing blanks stripped; None in graphics modes."""
        if self.registers.gr[GR_MISC] & GR6_GRAPHICS:
            return None
        return text_rows(self.registers, self.memory.words)


class CirrusVga(PciFunction):
    """A GD5446 on the PCI bus, 1013:00b8, with 4 MiB. The chip's parts are in `chip`."""

    def __init__(self, vram_size: int = VRAM_SIZE) -> None:
        self.chip = CirrusChip(GD5446_PCI, vram_size)
        super().__init__(
            name="cirrus-vga",
            vendor_id=VENDOR_CIRRUS,
            device_id=DEVICE_GD5446,
            class_code=CLASS_VGA,
            bars={0: Bar(self.chip.linear, prefetchable=True), 1: Bar(self.chip.mmio)},
            rom_size=ROM_SIZE,
        )
        self.legacy_memory.append((WINDOW_BASE, self.chip.window, 1))
        self.legacy_ports.append((PORT_BASE, self.chip.ports, 0))

    def reset(self) -> None:
        """The configuration space and the chip as after power-on."""
        super().reset()
        self.chip.reset()

    def state(self) -> Mapping[str, StateValue]:
        """The configuration space and the chip's state."""
        return {**super().state(), **self.chip.state()}

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see the VGA's."""
        return self.chip.render(frame)

    def text(self) -> list[str] | None:
        """Rows of a text screen, trailing blanks stripped; None in graphics modes."""
        return self.chip.text()


class IsaCirrusVga:
    """The same engine on the ISA bus: no linear framebuffer, registers only at 0xb8000.

    `legacy_memory` and `legacy_ports` say, as for a PCI function, what lies where.
    """

    name = "isa-cirrus-vga"

    def __init__(self, vram_size: int = VRAM_SIZE) -> None:
        self.chip = CirrusChip(GD5430_ISA, vram_size)
        self.legacy_memory = [(WINDOW_BASE, self.chip.window, 1)]
        self.legacy_ports = [(PORT_BASE, self.chip.ports, 0)]

    def reset(self) -> None:
        """The chip as after power-on."""
        self.chip.reset()

    def state(self) -> Mapping[str, StateValue]:
        """The chip's state."""
        return self.chip.state()

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see the VGA's."""
        return self.chip.render(frame)

    def text(self) -> list[str] | None:
        """Rows of a text screen, trailing blanks stripped; None in graphics modes."""
        return self.chip.text()
