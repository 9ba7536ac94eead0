"""Ethernet, ARP, IPv4, ICMP and UDP, one packet at a time, as bytes.

Layouts: RFC 826 (ARP), 791 (IPv4), 792 (ICMP), 768 (UDP), 1071 (the checksum); numbers are big
endian. What does not parse, or whose checksum is wrong, is None: a host drops it silently.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

BROADCAST: Final = b"\xff" * 6
FRAME_MIN: Final = 60  # bytes, without the frame check sequence
MTU: Final = 1500  # bytes of an IPv4 packet

ETHERNET_SIZE: Final = 14
IPV4_SIZE: Final = 20
UDP_SIZE: Final = 8
UDP_AT: Final = ETHERNET_SIZE + IPV4_SIZE
UDP_CHECKSUM_AT: Final = UDP_AT + 6
PAYLOAD_AT: Final = UDP_AT + UDP_SIZE
PAYLOAD_MAX: Final = MTU - IPV4_SIZE - UDP_SIZE

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
PROTOCOL_ICMP: Final = 1
PROTOCOL_UDP: Final = 17

ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2
ICMP_ECHO_REPLY: Final = 0
ICMP_ECHO: Final = 8

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_ARP_FIXED = (1, ETHERTYPE_IPV4, 6, 4)  # Ethernet, IPv4, and how long their addresses are
_DONT_FRAGMENT: Final = 0x4000
_FRAGMENT_MASK: Final = 0x3FFF  # more fragments, and the offset
_TTL: Final = 64


class Arp(NamedTuple):
    """An ARP packet for IPv4 over Ethernet."""

    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes


class Ipv4(NamedTuple):
    """An IPv4 packet that is no fragment."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes


class Udp(NamedTuple):
    """A UDP datagram."""

    source_port: int
    destination_port: int
    payload: bytes


def checksum(data: bytes) -> int:
    """The complement of the one's complement sum of 16-bit words; an odd last byte counts high.

    Over data that holds its own checksum: 0 when it is right.
    """
    value = int.from_bytes(data + b"\0" * (len(data) & 1), "big")
    # 2**16 is 1 modulo 0xffff; the sum of words is 0 only when every word is.
    return 0xFFFF - (value % 0xFFFF or (0xFFFF if value else 0))


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """A frame, padded to the least length."""
    return (_ETHERNET.pack(destination, source, ethertype) + payload).ljust(FRAME_MIN, b"\0")


def arp(packet: Arp) -> bytes:
    """The bytes of an ARP packet."""
    return _ARP.pack(*_ARP_FIXED, *packet)


def parse_arp(data: bytes) -> Arp | None:
    """Take an ARP packet apart; None when it is not one for IPv4 over Ethernet."""
    if len(data) < _ARP.size:
        return None
    fields = _ARP.unpack_from(data)
    return Arp(*fields[4:]) if fields[:4] == _ARP_FIXED else None


def ipv4(packet: Ipv4) -> bytes:
    """The bytes of an IPv4 packet without options."""
    fields = [0x45, 0, IPV4_SIZE + len(packet.payload), 0, _DONT_FRAGMENT, _TTL, packet.protocol]
    addresses = (packet.source, packet.destination)
    right = checksum(_IPV4.pack(*fields, 0, *addresses))
    return _IPV4.pack(*fields, right, *addresses) + packet.payload


def parse_ipv4(data: bytes) -> Ipv4 | None:
    """Take an IPv4 packet apart, options skipped; None for a fragment or a wrong header."""
    if len(data) < IPV4_SIZE or data[0] >> 4 != 4:
        return None
    header = (data[0] & 0xF) * 4
    _, _, total, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(data)
    if header < IPV4_SIZE or not header <= total <= len(data) or fragment & _FRAGMENT_MASK:
        return None
    if checksum(data[:header]):
        return None
    return Ipv4(source, destination, protocol, data[header:total])


def parse_icmp(data: bytes) -> tuple[int, bytes] | None:
    """(type, the bytes after type, code and checksum) of an ICMP message of code 0."""
    if len(data) < 8 or data[1] or checksum(data):
        return None
    return data[0], data[4:]


def icmp(kind: int, rest: bytes) -> bytes:
    """The bytes of an ICMP message of code 0."""
    right = checksum(bytes((kind, 0, 0, 0)) + rest)
    return struct.pack("!BBH", kind, 0, right) + rest


def pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    """The bytes before a UDP datagram of `length` bytes that its checksum covers."""
    return source + destination + struct.pack("!HH", PROTOCOL_UDP, length)


def udp(source: bytes, destination: bytes, datagram: Udp) -> bytes:
    """The bytes of a datagram between two IPv4 addresses."""
    length = UDP_SIZE + len(datagram.payload)
    ports = (datagram.source_port, datagram.destination_port)
    covered = pseudo_header(source, destination, length) + _UDP.pack(*ports, length, 0)
    # 0 stands for "no checksum", and 0xffff for a sum of 0.
    right = checksum(covered + datagram.payload) or 0xFFFF
    return _UDP.pack(*ports, length, right) + datagram.payload


def parse_udp(packet: Ipv4) -> Udp | None:
    """The datagram in an IPv4 packet; None when its length or checksum is wrong."""
    if len(packet.payload) < UDP_SIZE:
        return None
    source_port, destination_port, length, sent = _UDP.unpack_from(packet.payload)
    if not UDP_SIZE <= length <= len(packet.payload):
        return None
    datagram = packet.payload[:length]
    if sent and checksum(pseudo_header(packet.source, packet.destination, length) + datagram):
        return None
    return Udp(source_port, destination_port, datagram[UDP_SIZE:])
