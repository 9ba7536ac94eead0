"""Frames in a stream of bytes, as QEMU's: each behind its length, four bytes, big endian."""

from __future__ import annotations

import struct
from typing import Final

from coalesced.vmm.netdev.backend import FRAME_MAX

LENGTH: Final = struct.Struct(">I")


class Framer:
    """Cuts a stream into frames, however its bytes arrive.

    `error` says why it cannot go on: a length above FRAME_MAX. No frame comes after that.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self._rest = bytearray()
        self._needed = LENGTH.size  # bytes until there is something to cut off

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole with these bytes, empty ones included."""
        if len(self._rest) + len(data) < self._needed:
            self._rest += data
            return []
        if self._rest:
            data = bytes(self._rest) + data
        frames: list[bytes] = []
        start, size = 0, len(data)
        self._needed = LENGTH.size
        while self.error is None and size - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, start)
            end = start + LENGTH.size + length
            if length > FRAME_MAX:
                self.error = f"a frame of {length} bytes, expected at most {FRAME_MAX}"
            elif end > size:
                self._needed = end - start
                break
            else:
                frames.append(data[start + LENGTH.size : end])
                start = end
        self._rest = bytearray(data[start:])
        return frames
