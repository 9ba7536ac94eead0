"""The standard VGA on PCI, on ISA, and memory-mapped.

All are a `Vga` with Bochs' VBE extensions or without, at their places. `legacy_memory` and
`legacy_ports` say where they answer on a PC: (base, region, priority).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.devices.vga.linear import LinearMemory
from coalesced.devices.vga.linear_render import render_vbe
from coalesced.devices.vga.mmio import MMIO_SIZE, Mmio, read_aligned, write_aligned
from coalesced.devices.vga.ports import PORT_BASE
from coalesced.devices.vga.vbe import PORTS_BASE, Vbe
from coalesced.devices.vga.vga import Vga

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from coalesced.devices.bus.device import StateValue

WINDOW: Final = 0xA0000
WINDOW_PRIORITY: Final = 1
PORTS_PRIORITY: Final = 0
LINEAR: Final = 0xE000_0000
LINEAR_PRIORITY: Final = 2
"""Priority of regions that are not BARs: they hide BARs."""
PLACED_PRIORITY: Final = LINEAR_PRIORITY + 1
"""Priority of a region at an address that the caller chose: it hides video memory there."""

ROM_SIZE: Final = 64 << 10
"""Of the video BIOS on QEMU's card; this one has none, only the register for it."""

MM_PORTS_SIZE: Final = 1 << 20
"""Bytes of registers of the memory-mapped variant, however few answer."""


class PciVga(PciFunction):
    """QEMU's `VGA`: 1234:1111, video memory in BAR 0, registers in BAR 2, legacy addresses."""

    def __init__(self, vram_size: int = 16 << 20) -> None:
        """`vram_size` is in bytes, a power of two from 256 KiB to 256 MiB."""
        self.vga = Vga(vram_size)
        self.vbe = Vbe(self.vga)
        self.mmio = Mmio(self.vga.port_decoder, self.vbe)
        self.vram = self.vga.vram
        framebuffer = LinearMemory(self.vram).region("vga.vram")
        registers = Region("vga.mmio", MMIO_SIZE, self.mmio.read, self.mmio.write, flush=True)
        super().__init__(
            name="VGA",
            vendor_id=0x1234,
            device_id=0x1111,
            class_code=0x030000,
            revision=0x02,
            bars={0: Bar(framebuffer, prefetchable=True), 2: Bar(registers)},
            rom_size=ROM_SIZE,
        )
        self.legacy_memory = [(WINDOW, self.vga.window, WINDOW_PRIORITY)]
        self.legacy_ports = _legacy_ports(self.vga, self.vbe)

    def reset(self) -> None:
        """Clear every register; video memory keeps its contents."""
        super().reset()
        self.vbe.reset()
        self.vga.reset()
        self.mmio.reset()

    def state(self) -> Mapping[str, StateValue]:
        """Configuration space, registers of all kinds and video memory."""
        return {
            **super().state(),
            **self.vga.state(),
            **self.vbe.state(),
            **self.mmio.state(),
        }

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see `Vga.render`."""
        if self.vbe.enabled:
            return render_vbe(self.vga.registers, self.vbe, self.vram, self.mmio.big_endian)
        return self.vga.render(frame)

    def text(self) -> list[str] | None:
        """Return the rows of a text screen; None in graphics modes."""
        return None if self.vbe.enabled else self.vga.text()


class IsaVga:
    """QEMU's `isa-vga`: legacy addresses, VBE ports, video memory at 0xe0000000."""

    name = "isa-vga"

    def __init__(self, vram_size: int = 8 << 20) -> None:
        """`vram_size` is in bytes, a power of two from 256 KiB up."""
        self.vga = Vga(vram_size)
        self.vbe = Vbe(self.vga)
        self.vram = self.vga.vram
        framebuffer = LinearMemory(self.vram).region("vga.vram")
        self.legacy_memory = [
            (WINDOW, self.vga.window, WINDOW_PRIORITY),
            (LINEAR, framebuffer, LINEAR_PRIORITY),
        ]
        self.legacy_ports = _legacy_ports(self.vga, self.vbe)

    def reset(self) -> None:
        """Clear every register; video memory keeps its contents."""
        self.vbe.reset()
        self.vga.reset()

    def state(self) -> Mapping[str, StateValue]:
        """Registers of all kinds and video memory."""
        return {**self.vga.state(), **self.vbe.state()}

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see `Vga.render`."""
        if self.vbe.enabled:
            return render_vbe(self.vga.registers, self.vbe, self.vram)
        return self.vga.render(frame)

    def text(self) -> list[str] | None:
        """Return the rows of a text screen; None in graphics modes."""
        return None if self.vbe.enabled else self.vga.text()


class VgaMm:
    """QEMU's `vga_mm`: a VGA without extensions, its registers in memory, as on MIPS boards.

    A register lies where its port number, shifted left by `it_shift`, points to in the registers.
    QEMU cuts an access into aligned steps of up to 4 bytes, each of which reaches one port. The
    window is at `vram_base` + 0xa0000, video memory itself at 0xe0000000, as on QEMU's Jazz board.
    """

    name = "vga_mm"

    def __init__(
        self, ctrl_base: int, vram_base: int, it_shift: int = 0, vram_size: int = 8 << 20
    ) -> None:
        """`ctrl_base` and `vram_base` are addresses in memory; `it_shift` is 0 to 10.

        `vram_size` is in bytes, a power of two from 256 KiB up. Raises ValueError otherwise.
        """
        if not 0 <= it_shift <= 10:
            raise ValueError(f"expected an it_shift of 0 to 10, got {it_shift}")
        self.vga = Vga(vram_size)
        self.vram = self.vga.vram
        self._shift = it_shift
        registers = Region("vga_mm", MM_PORTS_SIZE, self._read, self._write, flush=True)
        self.legacy_memory = [
            (ctrl_base, registers, PLACED_PRIORITY),
            (vram_base + WINDOW, self.vga.window, PLACED_PRIORITY),
            (LINEAR, LinearMemory(self.vram).region("vga.vram"), LINEAR_PRIORITY),
        ]
        self.legacy_ports: list[tuple[int, Region, int]] = []

    def _read(self, offset: int, size: int) -> int:
        return read_aligned(self._read_port, offset, size)

    def _write(self, offset: int, size: int, value: int) -> None:
        write_aligned(self._write_port, offset, size, value)

    def _read_port(self, offset: int, size: int) -> int:
        return self.vga.port_decoder.read_register(offset >> self._shift)

    def _write_port(self, offset: int, size: int, value: int) -> None:
        self.vga.port_decoder.write_register(offset >> self._shift, value & 0xFF)

    def reset(self) -> None:
        """Clear every register; video memory keeps its contents."""
        self.vga.reset()

    def state(self) -> Mapping[str, StateValue]:
        """Registers and video memory."""
        return self.vga.state()

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw what the monitor shows as RGB of shape (height, width, 3); see `Vga.render`."""
        return self.vga.render(frame)

    def text(self) -> list[str] | None:
        """Return the rows of a text screen; None in graphics modes."""
        return self.vga.text()


def _legacy_ports(vga: Vga, vbe: Vbe) -> list[tuple[int, Region, int]]:
    return [(PORT_BASE, vga.ports, PORTS_PRIORITY), (PORTS_BASE, vbe.ports, PORTS_PRIORITY)]
