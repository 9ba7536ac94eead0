"""ARP, IPv4, ICMP and UDP against packets that Linux sent, and examples of the standards."""

from __future__ import annotations

import pytest

from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.packets import Arp, Ipv4, Udp

HOST_MAC = bytes.fromhex("ce427add9bc7")
GUEST_MAC = bytes.fromhex("525400123456")
HOST, GUEST = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))

# Linux's ping asks who has 192.0.2.2, and pings it.
ARP_REQUEST = bytes.fromhex(
    "ffffffffffff ce427add9bc7 0806 0001 0800 06 04 0001ce427add9bc7 c0000201 000000000000 c0000202"
)
PING = bytes.fromhex(
    "525400123456ce427add9bc70800450000548275400040013430c0000201c0000202"
    "0800e2b723b000015520036b00000000d23808000000000010111213141516171819"
    "1a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
)


def test_the_checksum_of_rfc_1071s_example() -> None:
    assert packets.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "right"),
    [("", 0xFFFF), ("0000", 0xFFFF), ("ffff", 0), ("ffffffff", 0), ("ab", 0x54FF), ("0001fffe", 0)],
)
def test_checksums_at_the_edges(data: str, right: int) -> None:
    assert packets.checksum(bytes.fromhex(data)) == right


def test_a_well_known_ipv4_header() -> None:
    header = bytes.fromhex("4500007300004000 4011 b861 c0a80001 c0a800c7".replace(" ", ""))
    packet = packets.parse_ipv4(header + bytes(0x73 - 20))
    assert packet is not None
    assert packet[:3] == (bytes((192, 168, 0, 1)), bytes((192, 168, 0, 199)), 17)
    assert packets.ipv4(packet)[:20] == header


def test_linuxs_arp_request_and_its_answer() -> None:
    question = packets.parse_arp(ARP_REQUEST[14:])
    assert question == Arp(packets.ARP_REQUEST, HOST_MAC, HOST, bytes(6), GUEST)
    answer = packets.arp(Arp(packets.ARP_REPLY, GUEST_MAC, GUEST, HOST_MAC, HOST))
    assert answer.hex() == "00010800060400025254001234" + "56c0000202ce427add9bc7c0000201"
    assert packets.parse_arp(answer[:-1]) is None
    assert packets.parse_arp(b"\0\6" + answer[2:]) is None  # not Ethernet


def test_linuxs_ping_and_its_answer() -> None:
    packet = packets.parse_ipv4(PING[14:])
    assert packet is not None
    assert packet[:3] == (HOST, GUEST, packets.PROTOCOL_ICMP)
    message = packets.parse_icmp(packet.payload)
    assert message is not None
    assert message[0] == packets.ICMP_ECHO
    answer = packets.icmp(packets.ICMP_ECHO_REPLY, message[1])
    assert answer[:4].hex() == "0000eab7"  # 8 less in the type, 0x800 more in the checksum
    assert answer[4:] == packet.payload[4:]
    assert packets.parse_icmp(answer) == (packets.ICMP_ECHO_REPLY, message[1])


def test_a_ping_that_was_damaged_is_none() -> None:
    for at in range(14, 34):
        damaged = PING[:at] + bytes((PING[at] ^ 0x10,)) + PING[at + 1 :]
        assert packets.parse_ipv4(damaged[14:]) is None
    packet = packets.parse_ipv4(PING[14:])
    assert packet is not None
    for at in range(len(packet.payload)):
        damaged = packet.payload[:at] + bytes((packet.payload[at] ^ 1,)) + packet.payload[at + 1 :]
        assert packets.parse_icmp(damaged) is None


@pytest.mark.parametrize("size", range(20))
def test_a_packet_that_was_cut_is_none(size: int) -> None:
    assert packets.parse_ipv4(PING[14 : 14 + size]) is None
    assert packets.parse_arp(ARP_REQUEST[14 : 14 + size]) is None
    assert packets.parse_icmp(PING[34 : 34 + min(size, 7)]) is None


def test_padding_behind_a_packet_is_left_out_and_options_are_skipped() -> None:
    plain = packets.ipv4(Ipv4(HOST, GUEST, 17, b"payload"))
    packet = packets.parse_ipv4(plain + bytes(19))
    assert packet is not None
    assert packet.payload == b"payload"
    header = bytearray(b"\x46" + plain[1:20] + b"\x01\x01\x01\x00")
    header[2:4] = (24 + 7).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = packets.checksum(bytes(header)).to_bytes(2, "big")
    assert packets.parse_ipv4(bytes(header) + b"payload") == packet


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF])
def test_fragments_are_none(fragment: int) -> None:
    header = bytearray(packets.ipv4(Ipv4(HOST, GUEST, 17, b"payload")))
    header[6:8] = fragment.to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = packets.checksum(bytes(header[:20])).to_bytes(2, "big")
    assert packets.parse_ipv4(bytes(header)) is None


@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(1472)])
def test_a_datagram_comes_back(payload: bytes) -> None:
    datagram = Udp(50_000, 7, payload)
    data = packets.udp(HOST, GUEST, datagram)
    assert packets.parse_udp(Ipv4(HOST, GUEST, 17, data)) == datagram
    assert packets.parse_udp(Ipv4(HOST, GUEST, 17, data + b"padding")) == datagram
    # Another host's: the pseudo header counts.
    assert packets.parse_udp(Ipv4(HOST, HOST, 17, data)) is None
    assert packets.parse_udp(Ipv4(HOST, GUEST, 17, data[:7])) is None
    unchecked = data[:6] + b"\0\0" + data[8:]
    assert packets.parse_udp(Ipv4(HOST, HOST, 17, unchecked)) == datagram


def test_a_datagram_whose_sum_is_zero_carries_ffff() -> None:
    """RFC 768: 0 would say that there is no checksum."""
    payloads = (number.to_bytes(2, "big") for number in range(1 << 16))
    zero = next(
        payload
        for payload in payloads
        if packets.checksum(
            packets.pseudo_header(HOST, GUEST, 10) + bytes.fromhex("c350 0007 000a 0000") + payload
        )
        == 0
    )
    data = packets.udp(HOST, GUEST, Udp(50_000, 7, zero))
    assert data[6:8] == b"\xff\xff"
    assert packets.parse_udp(Ipv4(HOST, GUEST, 17, data)) == Udp(50_000, 7, zero)


def test_short_frames_are_padded() -> None:
    frame = packets.ethernet(HOST_MAC, GUEST_MAC, packets.ETHERTYPE_ARP, b"12")
    assert len(frame) == packets.FRAME_MIN
    assert frame[:16] == HOST_MAC + GUEST_MAC + b"\x08\x06" + b"12"
