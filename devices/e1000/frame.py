"""An outgoing frame, assembled from data descriptors.

Source: 8254x manual, sections 3.3.7 and 3.5; the order of things is QEMU 7.2's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from coalesced.devices.e1000.offload import IXSM, NO_CONTEXT, TXSM, Context, finish_segment
from coalesced.devices.e1000.statistics import Statistics

ROOM: Final = 0x10000
"""Bytes that a frame has room for. What a guest adds beyond them is not taken, and a frame that
fills them begins anew: QEMU counts in 16 bits."""
TAG_SIZE: Final = 4
_TAG_AT: Final = 12

Read = Callable[[int, int], bytes]


class Outgoing(NamedTuple):
    """A frame that is ready to be sent."""

    data: bytes
    destination: bytes
    """Six bytes. Those that a shorter frame lacks are what the buffer held before."""
    tag_size: int
    """Number of bytes of a tag that the card inserted."""


Emit = Callable[[Outgoing], bool]


class Frame:
    """The data so far, and the offloads to apply to it.

    `read` reaches memory. `emit` takes a frame and says whether more may follow at once.
    """

    def __init__(self, statistics: Statistics, read: Read, emit: Emit) -> None:
        self._statistics = statistics
        self._read = read
        self._emit = emit
        self.reset()

    def reset(self) -> None:
        """No frame has begun, no context was given."""
        self.data = bytearray(ROOM)
        self.size = 0
        self.checksums = 0  # IXSM, TXSM: taken from the first data descriptor
        self.context = NO_CONTEXT
        self.segmentation = NO_CONTEXT
        self._header = bytearray(256)
        self._segments = 0
        self._tag = b""

    @property
    def begun(self) -> bool:
        """True when a descriptor left something for the next one to continue."""
        return bool(self.size or self.checksums or self._tag)

    def set_tag(self, tag: bytes) -> None:
        """The four bytes of a VLAN tag."""
        self._tag = tag

    def restart_segments(self) -> None:
        """Count segments from 0 again."""
        self._segments = 0

    def append(self, address: int, length: int) -> None:
        """Add data to be sent unchanged."""
        length = min(length, ROOM - self.size)
        self._take(address, length)
        self.size = (self.size + length) % ROOM

    def segment(self, address: int, length: int) -> int:
        """Add data, and send each segment that becomes full.

        How many bytes are left for another call, since no more segments may be sent at once.
        """
        context = self.segmentation
        while self.size < context.full:
            more = True
            part = min(length, context.full - self.size, ROOM - self.size)
            self._take(address, part)
            size = self.size + part
            if self.size < context.header <= size:
                self._header[: context.header] = self.data[: context.header]
            self.size = size % ROOM
            if size == context.full:
                more = self._finish(context, segmented=True)
                self.data[: context.header] = self._header[: context.header]
                self.size = context.header
            address += part
            length -= part
            if not part or not length:
                return 0
            if not more:
                return length
        return 0

    def end(self, segmented: bool) -> None:
        """The last descriptor was added: send what is there, unless it is half a header."""
        if segmented and self.size >= self.segmentation.header:
            self._finish(self.segmentation, segmented=True)
        elif not segmented:
            self._finish(self.context, segmented=False)
        self._segments = self.checksums = self.size = 0
        self._tag = b""

    def _take(self, address: int, length: int) -> None:
        if length:
            self.data[self.size : self.size + length] = self._read(address, length)

    def _finish(self, context: Context, segmented: bool) -> bool:
        data, size = self.data, self.size
        if segmented:
            if finish_segment(data, size, self._segments, context, bool(self.checksums & TXSM)):
                self._statistics.segmented()
            self._segments = (self._segments + 1) & 0xFFFF
        if self.checksums & TXSM:
            context.tcp_udp.insert(data, size)
        if self.checksums & IXSM:
            context.ip.insert(data, size)
        destination = bytes(data[:6])
        if not self._tag:
            frame = bytes(data[:size])
        else:
            frame = bytes(data[:_TAG_AT] + self._tag + data[_TAG_AT:size])[: size + TAG_SIZE]
            # It was put in by moving the addresses: what a next, shorter frame shows.
            data[:_TAG_AT] = data[TAG_SIZE:_TAG_AT] + self._tag
        return self._emit(Outgoing(frame, destination, len(frame) - size))

    def state(self) -> bytes:
        """The state that the next descriptor continues from."""
        kept = (self.size, self.checksums, self._segments, self._tag)
        contexts = (self.context, self.segmentation, bytes(self._header))
        return repr((kept, contexts, bytes(self.data[: max(self.size, _TAG_AT)]))).encode()
