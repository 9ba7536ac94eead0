"""Offloads of transmitted frames: checksums, and the headers of TCP segments.

Source: 8254x manual, sections 3.3.6 (context descriptor), 3.4 and 3.5 (segmentation, checksums);
what is done with fields that make no sense follows QEMU 7.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

TCP: Final = 1 << 24
IP: Final = 1 << 25
"""Of a context's command: IPv4 (1) or IPv6 (0)."""
TSE: Final = 1 << 26

IXSM: Final = 0x01
"""Packet option: insert the IP checksum."""
TXSM: Final = 0x02
"""Packet option: insert the TCP or UDP checksum."""

_TCP_FIN_PSH: Final = 0x09
_LAYOUT: Final = struct.Struct("<BBHBBHIBBH")


@dataclass(frozen=True, slots=True)
class Checksum:
    """Sum up a frame from `start` to `end` (inclusive; 0: to the end), put the result at `at`."""

    start: int
    at: int
    end: int

    def insert(self, data: bytearray, size: int) -> None:
        """Insert the checksum in a frame of `size` bytes; nothing happens where it has no room."""
        if 0 < self.end < size:
            size = self.end + 1
        if size == 0 or self.at < size - 1:
            value = internet_checksum(data[self.start : size])
            data[self.at : self.at + 2] = value.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Context:
    """A context descriptor."""

    ip: Checksum
    tcp_udp: Checksum
    payload: int
    header: int
    mss: int
    is_ipv4: bool
    is_tcp: bool

    @property
    def full(self) -> int:
        """Bytes of a segment that is not the last."""
        return self.header + self.mss


def parse_context(descriptor: bytes) -> Context:
    """Take its 16 bytes apart."""
    ipcss, ipcso, ipcse, tucss, tucso, tucse, command, _, header, mss = _LAYOUT.unpack(descriptor)
    return Context(
        Checksum(ipcss, ipcso, ipcse),
        Checksum(tucss, tucso, tucse),
        command & 0xFFFFF,
        header,
        mss,
        bool(command & IP),
        bool(command & TCP),
    )


NO_CONTEXT: Final = Context(Checksum(0, 0, 0), Checksum(0, 0, 0), 0, 0, 0, False, False)
"""Before the guest gives one."""


def internet_checksum(data: bytes | bytearray) -> int:
    """RFC 1071's, as it goes into a header: 1 to 0xffff, since 0 means no checksum in UDP."""
    number = int.from_bytes(data, "big") << (8 * (len(data) & 1))
    # A sum with end-around carry is the remainder by 0xffff.
    return 0xFFFF - number % 0xFFFF


def finish_segment(
    data: bytearray, size: int, number: int, context: Context, with_checksum: bool
) -> bool:
    """Put what differs between segments into the headers of one of `size` bytes.

    `number` counts the segments of a frame from 0. Lengths, the IP identification, the TCP sequence
    number and flags, and with a checksum to come the length in the pseudo header. Returns whether
    this is the last of several TCP segments.
    """
    at = context.ip.start
    if context.is_ipv4:
        _put(data, at + 2, size - at)
        _put(data, at + 4, _get(data, at + 4) + number)
    else:
        _put(data, at + 4, size - at)
    at = context.tcp_udp.start
    length = size - at & 0xFFFFFFFF
    last = False
    if context.is_tcp:
        so_far = number * context.mss
        sequence = int.from_bytes(data[at + 4 : at + 8], "big") + so_far
        data[at + 4 : at + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        if context.payload - so_far & 0xFFFFFFFF > context.mss:
            data[at + 13] &= ~_TCP_FIN_PSH
        else:
            last = number > 0
    else:
        _put(data, at + 4, length)
    if with_checksum:
        at = context.tcp_udp.at
        total = _get(data, at) + length & 0xFFFFFFFF
        _put(data, at, (total >> 16) + (total & 0xFFFF))
    return last


def _get(data: bytearray, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _put(data: bytearray, at: int, value: int) -> None:
    data[at : at + 2] = (value & 0xFFFF).to_bytes(2, "big")
