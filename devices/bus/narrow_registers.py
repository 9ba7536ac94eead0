"""Regions of narrow registers, of which a wider access reaches several."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


def aligned_registers(
    name: str,
    size: int,
    widest: int,
    read: Callable[[int, int], int],
    write: Callable[[int, int, int], None],
) -> Region:
    """A region whose accesses are cut into aligned ones of at most `widest` bytes, lowest first.

    `read(offset, length)` and `write(offset, length, value)` are those of a `Region`.
    """

    def read_pieces(offset: int, length: int) -> int:
        value = 0
        for at, piece in _aligned(offset, length, widest):
            value |= (read(at, piece) & (1 << 8 * piece) - 1) << 8 * (at - offset)
        return value

    def write_pieces(offset: int, length: int, value: int) -> None:
        for at, piece in _aligned(offset, length, widest):
            write(at, piece, value >> 8 * (at - offset) & (1 << 8 * piece) - 1)

    return Region(name, size, read_pieces, write_pieces)


def _aligned(offset: int, length: int, widest: int) -> Iterator[tuple[int, int]]:
    end = offset + length
    while offset < end:
        piece = widest
        while offset % piece or offset + piece > end:
            piece //= 2
        yield offset, piece
        offset += piece
