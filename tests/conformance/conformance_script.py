"""qtest scripts: commands for a machine with certain devices, and how to write them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

from helpers.qtest_network import FRAME, FRAMES, WAIT

RESET = "outb 0xcf9 0x6"
_WIDTHS = {1: "b", 2: "w", 4: "l", 8: "q"}


class Lines(list[str]):
    """The commands of a script, in order."""

    def out(self, port: int, value: int, size: int = 1) -> None:
        """A write to a port."""
        self.append(f"out{_WIDTHS[size]} {port:#x} {value:#x}")

    def in_(self, port: int, size: int = 1) -> None:
        """A read of a port."""
        self.append(f"in{_WIDTHS[size]} {port:#x}")

    def store(self, address: int, value: int, size: int = 1) -> None:
        """A write to memory."""
        self.append(f"write{_WIDTHS[size]} {address:#x} {value:#x}")

    def load(self, address: int, size: int = 1) -> None:
        """A read of memory."""
        self.append(f"read{_WIDTHS[size]} {address:#x}")

    def read(self, address: int, size: int) -> None:
        """A read of many bytes."""
        self.append(f"read {address:#x} {size:#x}")

    def write(self, address: int, data: bytes) -> None:
        """A write of many bytes."""
        self.append(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def memset(self, address: int, size: int, value: int) -> None:
        """A fill."""
        self.append(f"memset {address:#x} {size:#x} {value:#x}")

    def reset(self) -> None:
        """A reset of the machine."""
        self.append(RESET)

    # --- VGA ---

    def indexed(self, port: int, index: int, value: int) -> None:
        """A register behind an index port (0x3c4, 0x3ce, 0x3d4), both in one write."""
        self.out(port, index | value << 8, 2)

    def attribute(self, index: int, value: int) -> None:
        """A register of the attribute controller."""
        self.in_(0x3DA)
        self.out(0x3C0, index)
        self.out(0x3C0, value)

    def dispi(self, index: int, value: int) -> None:
        """A register of Bochs' VBE extensions."""
        self.out(0x1CE, index, 2)
        self.out(0x1D0, value, 2)

    # --- network: not for the machine, but for the far end of its wire ---

    def frame(self, data: bytes) -> None:
        """Send a frame to the card."""
        self.append(f"{FRAME} 0x{data.hex()}")

    def frames(self) -> None:
        """Look at what the card has sent."""
        self.append(FRAMES)

    def wait(self, milliseconds: int) -> None:
        """Let time pass."""
        self.append(f"{WAIT} {milliseconds}")

    # --- PCI ---

    def config_address(self, slot: int, offset: int, function: int = 0) -> None:
        """Select a register of configuration space."""
        self.out(0xCF8, 0x8000_0000 | slot << 11 | function << 8 | offset & 0xFC, 4)

    def config_write(self, slot: int, offset: int, value: int, size: int = 4) -> None:
        """Write to configuration space."""
        self.config_address(slot, offset)
        self.out(0xCFC + (offset & 3), value, size)

    def config_read(self, slot: int, offset: int, size: int = 4) -> None:
        """Read from configuration space."""
        self.config_address(slot, offset)
        self.in_(0xCFC + (offset & 3), size)


@dataclass(frozen=True)
class Script:
    """Commands, and the devices of the machine that they are for.

    `network`: there is a wire, netdev n0, and the machine's clock runs.
    """

    name: str
    devices: tuple[str, ...]
    build: Callable[[Lines], None]
    network: bool = False

    def lines(self) -> list[str]:
        """The commands."""
        return list(_lines(self.build))


@functools.cache
def _lines(build: Callable[[Lines], None]) -> tuple[str, ...]:
    lines = Lines()
    build(lines)
    return tuple(lines)


def seeded(name: str) -> random.Random:
    """Random numbers that are the same on every machine and in every version of Python."""
    return random.Random(f"coalesced {name}")
