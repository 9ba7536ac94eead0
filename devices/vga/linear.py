"""Video memory as plain bytes, lowest address first: a linear framebuffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coalesced.devices.bus.region import Region
from coalesced.devices.vga.runs import linear_plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from coalesced.devices.bus.write_run import WriteRun


class LinearMemory:
    """All of video memory; no register of the VGA affects it."""

    def __init__(self, vram: NDArray[np.uint8]) -> None:
        self._bytes = vram.data
        self._plan = linear_plan(vram)

    def region(self, name: str) -> Region:
        """A region over all of it, whose writes may be queued."""
        size = len(self._bytes)
        return Region(
            name,
            size,
            self.read,
            self.write,
            coalesced=((0, size),),
            flush=True,
            take_run=self.take_run,
        )

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes; those outside video memory are 0."""
        return int.from_bytes(self._bytes[max(offset, 0) : max(offset + size, 0)], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes; those outside video memory are lost."""
        if size == 1 and 0 <= offset < len(self._bytes):
            self._bytes[offset] = value & 0xFF
            return
        data = (value & (1 << (8 * size)) - 1).to_bytes(size, "little")
        for at, byte in enumerate(data, offset):
            if 0 <= at < len(self._bytes):
                self._bytes[at] = byte

    def take_run(self, run: WriteRun) -> int:
        """Do what as many calls of `write` would, at once; takes every entry."""
        self._plan.write(run)
        return len(run)
