"""The drawing guest on the memory-mapped VGA, with that card's addresses of ports and window.

A translation in front of the vCPU, so that the same program draws on both.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.vcpu import Bus, Vcpu
from coalesced.tools.guests import vga
from coalesced.tools.guests.mode12h import WINDOW

CTRL_BASE: Final = 0xE0000000
VRAM_BASE: Final = 0xE1000000
IT_SHIFT: Final = 2  # a register every 4 bytes
WINDOW_SIZE: Final = 0x20000
_REGISTER_PORTS: Final = range(0x3B0, 0x3E0)


def draw(vcpu: Vcpu) -> None:
    """Draw as `tools.guests.vga.draw` does."""
    vga.draw(Vcpu(_Translated(vcpu.bus)))


def draw_image(vcpu: Vcpu, address: int) -> None:
    """Draw as `tools.guests.vga.draw_image` does."""
    vga.draw_image(Vcpu(_Translated(vcpu.bus)), address)


class _Translated:
    """A bus that translates the VGA's ports and window to the memory-mapped card's addresses."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.read_memory = bus.read_memory
        self.write_memory = bus.write_memory
        self.wait_interrupt = bus.wait_interrupt

    def load(self, address: int, size: int, /) -> int:
        return self._bus.load(_window(address), size)

    def store(self, address: int, size: int, value: int, /) -> None:
        self._bus.store(_window(address), size, value)

    def in_(self, port: int, size: int, /) -> int:
        if port not in _REGISTER_PORTS:
            return self._bus.in_(port, size)
        parts = (self._bus.load(_register(port + i), 1) << 8 * i for i in range(size))
        return sum(parts)

    def out(self, port: int, size: int, value: int, /) -> None:
        if port not in _REGISTER_PORTS:
            self._bus.out(port, size, value)
            return
        for i in range(size):
            self._bus.store(_register(port + i), 1, value >> 8 * i & 0xFF)

    def fill(self, address: int, size: int, count: int, value: int, /) -> None:
        self._bus.fill(_window(address), size, count, value)

    def store_many(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64], /
    ) -> None:
        in_window = (addresses >= WINDOW) & (addresses < WINDOW + WINDOW_SIZE)
        self._bus.store_many(addresses + in_window * np.uint64(VRAM_BASE), size, values)

    def execute(self, ops: NDArray[np.void], /) -> None:
        """One by one: an access to a port may become several."""
        for op in ops:
            kind, size, address = int(op["kind"]), int(op["size"]), int(op["address"])
            if kind == OP_STORE:
                self.store(address, size, int(op["value"]))
            elif kind == OP_OUT:
                self.out(address, size, int(op["value"]))
            elif kind == OP_LOAD:
                op["value"] = self.load(address, size)
            elif kind == OP_IN:
                op["value"] = self.in_(address, size)


def _window(address: int) -> int:
    return address + VRAM_BASE if WINDOW <= address < WINDOW + WINDOW_SIZE else address


def _register(port: int) -> int:
    return CTRL_BASE + (port << IT_SHIFT)
