"""The two DMA controllers of a PC, Intel 8237A, with the page registers of their channels.

No device here asks for a transfer, so that they are registers alone. What these answer follows
QEMU 7.2's `i8257`; register names: Intel 8237A data sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.region import Region

BYTES_PORT: Final = 0x00
WORDS_PORT: Final = 0xC0
PAGES_PORT: Final = 0x80

COUNT: Final = 1  # the odd registers of the channels; the even ones are addresses
STATUS: Final = 0x8  # read; written it is the command
REQUEST: Final = 0x9  # written; QEMU reads the mask there
MASK_ONE: Final = 0xA
MODE: Final = 0xB
CLEAR_FLIP_FLOP: Final = 0xC
MASTER_CLEAR: Final = 0xD
CLEAR_MASK: Final = 0xE
MASK_ALL: Final = 0xF

MODE_DOWN: Final = 0x20
SET: Final = 0x04
"""Of a request or a mask of one channel."""
COMMAND_UNSUPPORTED: Final = 0xDC
"""A command with one of these bits (memory to memory and the like) QEMU does not take."""

_PAGES: Final = {0x1: 2, 0x2: 3, 0x3: 1, 0x7: 0}  # channel by offset; eight further on the others


class I8237:
    """Both controllers and all page registers."""

    name = "i8257"

    def __init__(self) -> None:
        self.low = Controller("dma-low", 0)
        self.high = Controller("dma-high", 1)
        self._pages = bytearray(8)  # by channel
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (BYTES_PORT, self.low.region, 0),
            (WORDS_PORT, self.high.region, 0),
        ]
        for offset in _PAGES:
            for high in (0, 8):
                self.legacy_ports.append((PAGES_PORT + high + offset, self._page(offset, high), 0))

    def _page(self, offset: int, high: int) -> Region:
        channel = _PAGES[offset] + high // 2

        def write(_at: int, _size: int, value: int) -> None:
            self._pages[channel] = value & 0xFF

        return Region("dma-page", 1, lambda _at, _size: self._pages[channel], write)

    def reset(self) -> None:
        """As after a master clear; addresses, counts and pages stay, as in QEMU."""
        for controller in (self.low, self.high):
            controller.clear()

    def state(self) -> Mapping[str, StateValue]:
        """The registers of both, and the pages."""
        both = {
            f"{controller.region.name}.{name}": value
            for controller in (self.low, self.high)
            for name, value in controller.state().items()
        }
        return {**both, "pages": bytes(self._pages)}


class Controller:
    """One 8237A, whose registers lie 1 << `shift` ports apart."""

    def __init__(self, name: str, shift: int) -> None:
        self.region = Region(name, 16 << shift, self._read, self._write)
        self._shift = shift
        self._base = [0] * 8  # address and count of each channel
        self._now = [0] * 4  # the present address of each channel
        self._modes = bytearray(4)
        self.clear()

    def clear(self) -> None:
        """A master clear: every channel is masked."""
        self._high_byte = False  # the flip-flop
        self._mask = 0xFF
        self._status = 0
        self._command = 0

    def state(self) -> Mapping[str, StateValue]:
        """All registers."""
        numbers = [*self._base, *self._now]
        return {
            "channels": b"".join(number.to_bytes(4, "little") for number in numbers),
            "modes": bytes(self._modes),
            "control": bytes((self._high_byte, self._mask, self._status, self._command)),
        }

    def _read(self, offset: int, size: int) -> int:
        data = bytes(self._read_byte((offset + at) >> self._shift) for at in range(size))
        return int.from_bytes(data, "little")

    def _read_byte(self, register: int) -> int:
        if register == STATUS:
            value, self._status = self._status, self._status & 0xF0
            return value
        if register >= STATUS:
            return self._mask if register == REQUEST else 0
        channel = register // 2
        count = self._base[2 * channel + COUNT] << self._shift
        value = count if register & COUNT else self._now[channel]
        value >>= self._shift + 8 * self._high_byte
        self._high_byte = not self._high_byte
        return value & 0xFF

    def _write(self, offset: int, size: int, value: int) -> None:
        for at in range(size):
            self._write_byte((offset + at) >> self._shift, value >> 8 * at & 0xFF)

    def _write_byte(self, register: int, value: int) -> None:
        if register < STATUS:
            self._write_channel(register, value)
        elif register == STATUS:
            if not value & COMMAND_UNSUPPORTED:
                self._command = value
        elif register == REQUEST:
            request = 0x10 << (value & 3)
            self._status = self._status | request if value & SET else self._status & ~request
            self._status &= ~(1 << (value & 3))
        elif register == MASK_ONE:
            bit = 1 << (value & 3)
            self._mask = self._mask | bit if value & SET else self._mask & ~bit
        elif register == MODE:
            self._modes[value & 3] = value
        elif register == CLEAR_FLIP_FLOP:
            self._high_byte = False
        elif register == MASTER_CLEAR:
            self.clear()
        else:
            self._mask = 0 if register == CLEAR_MASK else value

    def _write_channel(self, register: int, value: int) -> None:
        base = self._base[register]
        if self._high_byte:
            self._base[register] = base & 0xFF | value << 8
            channel = register // 2
            self._now[channel] = self._base[2 * channel] << self._shift
        else:
            self._base[register] = base & 0xFF00 | value
        self._high_byte = not self._high_byte
