"""Many frames at a time: arrays with a frame in each row.

A block is an array of bytes of shape (frames, SLOT); with it go the frames' lengths in bytes,
without the frame check sequence. What lies in a row behind its frame means nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.guests.network.packets import (
    ETHERNET_SIZE,
    IPV4_SIZE,
    PAYLOAD_AT,
    PROTOCOL_UDP,
    UDP_AT,
    UDP_CHECKSUM_AT,
    UDP_SIZE,
    Ipv4,
    Udp,
    ethernet,
    ipv4,
    pseudo_header,
    udp,
)

SLOT: Final = 2048  # bytes of a row, and of the card's receive buffers

Block = NDArray[np.uint8]
Lengths = NDArray[np.int64]

_IP_LENGTH_AT: Final = ETHERNET_SIZE + 2
_FRAGMENT_AT: Final = ETHERNET_SIZE + 6
_PROTOCOL_AT: Final = ETHERNET_SIZE + 9
_IP_CHECKSUM_AT: Final = ETHERNET_SIZE + 10
_DESTINATION_AT: Final = ETHERNET_SIZE + 16
_PORT_AT: Final = UDP_AT + 2
_UDP_LENGTH_AT: Final = UDP_AT + 4


class Frames(NamedTuple):
    """Frames in the order of the wire."""

    block: Block
    lengths: Lengths

    def rows(self) -> list[bytes]:
        """Each frame as bytes."""
        data = self.block.tobytes()
        width = self.block.shape[1]
        starts = range(0, len(data), width)
        return [data[s : s + n] for s, n in zip(starts, self.lengths.tolist(), strict=True)]

    def part(self, start: int, stop: int) -> Frames:
        """The frames from `start` up to `stop`."""
        return Frames(self.block[start:stop], self.lengths[start:stop])

    def where(self, chosen: NDArray[np.bool_]) -> Frames:
        """The frames that a mask selects."""
        return Frames(self.block[chosen], self.lengths[chosen])


class Host(NamedTuple):
    """One end of a UDP flow."""

    mac: bytes
    ip: bytes
    port: int


def empty(count: int) -> Block:
    """A block of zeros."""
    return np.zeros((count, SLOT), np.uint8)


def of_rows(frames: list[bytes]) -> Frames:
    """A block made of frames as bytes; of a frame that is too long, its start and its length."""
    data = b"".join(frame[:SLOT].ljust(SLOT, b"\0") for frame in frames)
    block = np.frombuffer(data, np.uint8).reshape(-1, SLOT)
    return Frames(block, np.array([len(frame) for frame in frames], np.int64))


def sums(words: NDArray[np.uint16]) -> NDArray[np.int64]:
    """One's complement sums of rows, 0 to 0xffff, in the byte order of the words."""
    return _fold(words.sum(axis=1, dtype=np.int64))


def put16(block: Block, at: int, values: NDArray[np.int64]) -> None:
    """Put a number of 16 bits into each row, big endian."""
    block[:, at] = values >> 8
    block[:, at + 1] = values & 0xFF


def get16(block: Block, at: int) -> NDArray[np.int64]:
    """The number of 16 bits in each row, big endian."""
    return block[:, at].astype(np.int64) << 8 | block[:, at + 1]


def put_checksum(block: Block, total: NDArray[np.int64]) -> None:
    """Put UDP checksums into rows, from the sums of the bytes that they cover."""
    right = 0xFFFF - _fold(total)
    put16(block, UDP_CHECKSUM_AT, np.where(right == 0, 0xFFFF, right))


class UdpFlow:
    """Puts the headers of one UDP flow into blocks that already hold the payloads."""

    def __init__(self, source: Host, destination: Host) -> None:
        empty_datagram = udp(source.ip, destination.ip, Udp(source.port, destination.port, b""))
        packet = ipv4(Ipv4(source.ip, destination.ip, PROTOCOL_UDP, empty_datagram))
        frame = ethernet(destination.mac, source.mac, 0x0800, packet)
        header = bytearray(frame[:PAYLOAD_AT])
        for at in (_IP_LENGTH_AT, _IP_CHECKSUM_AT, _UDP_LENGTH_AT, UDP_CHECKSUM_AT):
            header[at : at + 2] = b"\0\0"
        self._header = np.frombuffer(bytes(header), np.uint8)
        # The bytes that the checksums cover, except the lengths.
        self._ip_sum = _sum_of(bytes(header[ETHERNET_SIZE:UDP_AT]))
        self._pseudo_sum = _sum_of(pseudo_header(source.ip, destination.ip, 0))

    def pack(self, block: Block, payloads: Lengths) -> Lengths:
        """Fill the headers in; `payloads` are the lengths from PAYLOAD_AT on, 18 to 1472.

        Bytes behind a payload are set to zero. Returns the frames' lengths.
        """
        widest = int(payloads.max(initial=0))
        if int(payloads.min(initial=widest)) < widest or widest & 1:
            behind = np.arange(SLOT - PAYLOAD_AT) >= payloads[:, None]
            block[:, PAYLOAD_AT:][behind] = 0
        block[:, :PAYLOAD_AT] = self._header
        datagrams = payloads + UDP_SIZE
        packets = datagrams + IPV4_SIZE
        put16(block, _IP_LENGTH_AT, packets)
        put16(block, _IP_CHECKSUM_AT, 0xFFFF - _fold(self._ip_sum + packets))
        put16(block, _UDP_LENGTH_AT, datagrams)
        # The words count in this machine's order; swapped bytes swap the sum.
        words = block[:, UDP_AT : PAYLOAD_AT + widest + (widest & 1)].view(np.uint16)
        put_checksum(block, _big_endian(sums(words)) + self._pseudo_sum + datagrams)
        return payloads + PAYLOAD_AT


def udp_to(frames: Frames, mac: bytes, ip: bytes, port: int) -> NDArray[np.bool_]:
    """The frames that are whole UDP datagrams to this host and port, with right checksums.

    Only those without IP options; the others are parsed one by one.
    """
    block, lengths = frames
    wanted = np.frombuffer(ip + port.to_bytes(2, "big"), np.uint8)
    start = np.frombuffer(mac, np.uint8)
    found: NDArray[np.bool_] = (
        (lengths >= PAYLOAD_AT)
        & (block[:, :6] == start).all(axis=1)
        & (block[:, 12] == 0x08)
        & (block[:, 13] == 0x00)
        & (block[:, ETHERNET_SIZE] == 0x45)
        & ((block[:, _FRAGMENT_AT] & 0x3F) == 0)
        & (block[:, _FRAGMENT_AT + 1] == 0)
        & (block[:, _PROTOCOL_AT] == PROTOCOL_UDP)
        & (block[:, _DESTINATION_AT : _DESTINATION_AT + 4] == wanted[:4]).all(axis=1)
        & (block[:, _PORT_AT : _PORT_AT + 2] == wanted[4:]).all(axis=1)
    )
    if found.any():
        found[found] = _sound(frames.where(found))
    return found


def payload_lengths(frames: Frames) -> Lengths:
    """Bytes of UDP payload, as the datagrams' own headers have it."""
    return get16(frames.block, _UDP_LENGTH_AT) - UDP_SIZE


def _sound(frames: Frames) -> NDArray[np.bool_]:
    """Lengths and checksums of UDP datagrams without IP options."""
    block, lengths = frames
    packets, datagrams = get16(block, _IP_LENGTH_AT), get16(block, _UDP_LENGTH_AT)
    fits: NDArray[np.bool_] = (
        (datagrams >= UDP_SIZE)
        & (packets == datagrams + IPV4_SIZE)
        & (packets + ETHERNET_SIZE <= lengths)
    )
    fits &= sums(_words(block[:, ETHERNET_SIZE:UDP_AT])) == 0xFFFF
    widest = int(datagrams.max(initial=0, where=fits))
    data = block[:, UDP_AT : UDP_AT + widest + (widest & 1)].copy()
    data[np.arange(data.shape[1]) >= datagrams[:, None]] = 0
    addresses = block[:, _DESTINATION_AT - 4 : _DESTINATION_AT + 4]
    covered = _big_endian(sums(_words(data))) + _big_endian(sums(_words(addresses)))
    right = _fold(covered + PROTOCOL_UDP + datagrams) == 0xFFFF
    unused = get16(block, UDP_CHECKSUM_AT) == 0
    fits &= right | unused
    return fits


def _words(data: Block) -> NDArray[np.uint16]:
    return np.ascontiguousarray(data).view(np.uint16)


def _fold(total: NDArray[np.int64]) -> NDArray[np.int64]:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def _big_endian(total: NDArray[np.int64]) -> NDArray[np.int64]:
    return total.astype(np.uint16).byteswap().astype(np.int64)


def _sum_of(data: bytes) -> int:
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
