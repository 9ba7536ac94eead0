"""Bus mastering: a device's own access to memory."""

from __future__ import annotations

from typing import Protocol


class Ram(Protocol):
    """A stretch of RAM. What is written through `write` is seen in order, by a guest that polls."""

    start: int
    size: int
    view: memoryview  # its bytes, read-only

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; raises ValueError outside."""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at `offset`; raises ValueError outside."""


class Dma(Protocol):
    """Guest-physical memory as a bus master sees it: RAM first, then whatever else answers.

    Every address from 0 to 2**64 - 1 may be named, and any size; nothing raises for what a guest
    asks. Bytes where nothing answers read as 0, and writes to them are swallowed.
    """

    device_accesses: int
    """Number of accesses to devices, not to RAM, so far."""

    def ram_at(self, address: int) -> Ram | None:
        """The RAM that holds `address`, for much traffic at once; None where there is none."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at `address`; whoever sees them also sees what was written before."""
