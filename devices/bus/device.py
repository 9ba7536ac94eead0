"""The interfaces between a chip and its machine: what a chip offers, and what it may use.

A chip is a `Device`. It may use the machine's `Clock`, `Dma` to memory and an `InterruptLine`; a
network `Card` is joined to a `Wire`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

StateValue = int | bytes | memoryview


class Device(Protocol):
    """A chip on a machine's buses."""

    @property
    def name(self) -> str:
        """QEMU's name of the device, as in `-device NAME`."""

    def reset(self) -> None:
        """Put every register into its state after power-on."""

    def state(self) -> Mapping[str, StateValue]:
        """Registers, memories and palettes by name, without what derives from the clock.

        Two devices with equal states answer equal accesses equally. A memoryview may alias the
        device's memory: read it before the device runs on.
        """


class Timer(Protocol):
    """A call that is due at a time."""

    def cancel(self) -> None:
        """Cancel the call; does nothing once it was made."""


class Clock(Protocol):
    """QEMU's virtual clock: nanoseconds since the start of the machine."""

    def now(self) -> int:
        """Nanoseconds."""

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        """Call once when the clock has reached `due` nanoseconds, never before this returns."""


class Ram(Protocol):
    """A stretch of RAM. A guest that polls sees the writes of `write` in their order."""

    start: int
    size: int
    view: memoryview  # its bytes, read-only

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; raises ValueError outside."""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at `offset`; raises ValueError outside."""


class Dma(Protocol):
    """Guest-physical memory as a bus master sees it: RAM first, then whatever else answers.

    Any address from 0 to 2**64 - 1 and any size is allowed; nothing raises for what a guest
    asks. Bytes where nothing answers read as 0, and writes to them are swallowed.
    """

    device_accesses: int
    """Number of accesses to devices, not to RAM, so far."""

    def ram_at(self, address: int) -> Ram | None:
        """The RAM that holds `address`, for much traffic at once; None where there is none."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at `address`; a reader that sees them also sees all earlier writes."""


class InterruptLine:
    """One level-triggered line. Raising a raised line, or lowering a lowered one, does nothing."""

    __slots__ = ("_level", "_sink", "number")

    def __init__(self, number: int, sink: Callable[[int, bool], None]) -> None:
        """`sink(number, level)` is called on each change of the level."""
        self.number = number
        self._sink = sink
        self._level = False

    @property
    def level(self) -> bool:
        return self._level

    def set(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._sink(self.number, level)


class Wire(Protocol):
    """The network side of a card; implemented by a network back end."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Send frames in order; how many were taken, 0 to all.

        After fewer than all the wire is full; it calls the card's `resume_transmit` when it has
        room again.
        """

    def receive_ready(self, timer: bool = False) -> None:
        """The card can receive again: waiting frames may be delivered before this returns.

        `timer`: a timer of the card is the cause, not a register write of the guest, so that
        earlier writes of the guest may still be queued.
        """


class Card(Protocol):
    """A network card, as its wire sees it."""

    def can_receive(self) -> bool:
        """Whether `receive` would take a frame now; if not, `receive_ready` is called later."""

    def receive(self, frames: Sequence[bytes]) -> int:
        """Take frames from the wire, in order; how many were taken, 0 to all.

        Those that were not must be offered again. A frame that the card drops (no address filter
        matches, no room) counts as taken, and is in the card's own statistics.
        """

    def resume_transmit(self) -> None:
        """The wire has room again."""
