"""Ports by which firmware reports: POST codes, and a console of debugging text.

Their answers follow QEMU 7.2's `pc` and its `isa-debugcon`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.region import Region

POST_PORT: Final = 0x80
FPU_PORT: Final = 0xF0
DEBUG_PORT: Final = 0xE9
FIRMWARE_DEBUG_PORT: Final = 0x402
"""Where SeaBIOS writes its log, if it reads READBACK there."""
READBACK: Final = 0xE9
_ONES: Final = 0xFF


class PostCodes:
    """Port 0x80, and 0xf0 that clears the FPU's error: both read as ones.

    Writes of port 0x80 may be queued as far as the guest can see, but firmware writes it to wait
    about a microsecond, or to say how far it came when it hangs: neither is worth a zone.
    """

    name = "ioport80"

    def __init__(self) -> None:
        self.last = 0
        """The code that was written last."""
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (POST_PORT, byte_registers("ioport80", 1, _read_ones, self._write), 0),
            (FPU_PORT, byte_registers("ioportF0", 1, _read_ones, _ignore), 0),
        ]

    def reset(self) -> None:
        """The code stays: it is what one wants to know."""

    def state(self) -> Mapping[str, StateValue]:
        """The last code."""
        return {"last": self.last}

    def _write(self, _offset: int, value: int) -> None:
        self.last = value


class DebugConsole:
    """A port that takes text, and reads as a constant by which firmware finds it.

    Its writes may not be queued: the text is there for the moment at which a guest hangs.
    """

    name = "isa-debugcon"

    def __init__(self, base: int = DEBUG_PORT, readback: int = READBACK) -> None:
        """`base`: the port, 0 to 0xffff; `readback`: the byte that is read. Raises ValueError."""
        if not 0 <= base <= 0xFFFF:
            raise ValueError(f"isa-debugcon: expected a port of 0 to 0xffff, got {base:#x}")
        self.send: Callable[[bytes], object] = lambda _data: None
        """Takes what the guest writes."""
        self.legacy_memory: list[tuple[int, Region, int]] = []
        region = byte_registers("isa-debugcon", 1, lambda _at: readback & 0xFF, self._write)
        self.legacy_ports: list[tuple[int, Region, int]] = [(base, region, 0)]

    def reset(self) -> None:
        """There is nothing to reset."""

    def state(self) -> Mapping[str, StateValue]:
        """Nothing: a written byte is not kept."""
        return {}

    def _write(self, _offset: int, value: int) -> None:
        self.send(bytes((value,)))


def _read_ones(_offset: int) -> int:
    return _ONES


def _ignore(_offset: int, _value: int) -> None:
    """A write without an effect."""
