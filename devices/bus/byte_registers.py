"""A region of registers of one byte, as the chips of the ISA bus have them."""

from __future__ import annotations

from collections.abc import Callable

from coalesced.devices.bus.region import Region


def byte_registers(
    name: str, size: int, read: Callable[[int], int], write: Callable[[int, int], None]
) -> Region:
    """A region whose wider accesses are accesses of its bytes, the lowest first.

    `read(offset)` gives a byte, `write(offset, value)` takes one.
    """

    def read_bytes(offset: int, length: int) -> int:
        if length == 1:
            return read(offset)
        return int.from_bytes(bytes(read(offset + at) for at in range(length)), "little")

    def write_bytes(offset: int, length: int, value: int) -> None:
        for at in range(length):
            write(offset + at, value >> 8 * at & 0xFF)

    return Region(name, size, read_bytes, write_bytes)
