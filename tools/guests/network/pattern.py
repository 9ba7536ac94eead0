"""Frames that both ends of a test generate, so that each can check the other's byte by byte."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.chance import generator
from coalesced.tools.guests.network import blocks
from coalesced.tools.guests.network.blocks import SLOT, Frames, Host, UdpFlow, get16, put16
from coalesced.tools.guests.network.packets import (
    FRAME_MIN,
    PAYLOAD_AT,
    PAYLOAD_MAX,
    UDP_CHECKSUM_AT,
)

_KINDS: Final = 509  # a prime, so that a kind meets every slot of a ring
_LEAST: Final = FRAME_MIN - PAYLOAD_AT  # bytes of payload that need no padding


class Pattern:
    """UDP datagrams numbered from 0, with the random bytes of a seed.

    Frame n starts with n in 4 bytes, big endian; the rest, of 18 to 1472 bytes of payload, is that
    of frame n - 509.
    """

    def __init__(self, source: Host, destination: Host, seed: int, length: int = 0) -> None:
        """`length`: bytes of each payload, 18 to 1472; 0: all lengths."""
        random = generator(seed)
        payloads = random.integers(_LEAST, PAYLOAD_MAX + 1, size=_KINDS)
        payloads[:4] = (_LEAST, PAYLOAD_MAX, _LEAST + 1, PAYLOAD_MAX - 1)
        if length:
            payloads[:] = length
        self._block = random.integers(256, size=(_KINDS, SLOT), dtype=np.uint8)
        self._block[:, PAYLOAD_AT : PAYLOAD_AT + 4] = 0
        self._lengths = UdpFlow(source, destination).pack(self._block, payloads)
        self._sums = 0xFFFF - get16(self._block, UDP_CHECKSUM_AT)
        self._outside = np.arange(SLOT) >= self._lengths[:, None]

    def frames(self, first: int, count: int) -> Frames:
        """Frames `first` to `first + count - 1`."""
        numbers = np.arange(first, first + count)
        kinds = numbers % _KINDS
        block = self._block[kinds]
        high, low = numbers >> 16, numbers & 0xFFFF
        put16(block, PAYLOAD_AT, high)
        put16(block, PAYLOAD_AT + 2, low)
        blocks.put_checksum(block, self._sums[kinds] + high + low)
        return Frames(block, self._lengths[kinds])

    def wrong(self, got: Frames, first: int) -> int:
        """Number of frames that differ, in any byte or in length, from those from `first` on."""
        count = len(got.lengths)
        wanted = self.frames(first, count)
        outside = self._outside[np.arange(first, first + count) % _KINDS]
        equal: NDArray[np.bool_] = ((got.block == wanted.block) | outside).all(axis=1)
        return count - int((equal & (got.lengths == wanted.lengths)).sum())
