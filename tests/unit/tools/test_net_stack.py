"""The stack behind a card: what it answers, and to whom."""

from __future__ import annotations

import time

import pytest

from coalesced.tools.guests.network import packets, stack
from coalesced.tools.guests.network.blocks import Frames
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.packets import Arp, Ipv4, Udp
from coalesced.tools.guests.network.rings import SLOTS
from coalesced.tools.guests.network.stack import Stack, Unreachable
from helpers.net_card import MAC, FakeCard

IP, HOST = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))
HOST_MAC = bytes.fromhex("ce427add9bc7")


class Wire:
    """A host beside the guest: keeps what the guest sends."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.card = FakeCard(self.frames.extend)
        self.stack = Stack(Card(self.card), IP)

    def answers(self, *frames: bytes) -> list[bytes]:
        """The frames that the guest sends after these."""
        self.frames.clear()
        self.card.arrive(*frames)
        while self.stack.poll(time.monotonic()):
            pass
        return list(self.frames)


def arp(operation: int, target_ip: bytes = IP) -> bytes:
    packet = Arp(operation, HOST_MAC, HOST, bytes(6), target_ip)
    return packets.ethernet(packets.BROADCAST, HOST_MAC, packets.ETHERTYPE_ARP, packets.arp(packet))


def ip(protocol: int, payload: bytes, to: bytes = IP, mac: bytes = MAC) -> bytes:
    packet = packets.ipv4(Ipv4(HOST, to, protocol, payload))
    return packets.ethernet(mac, HOST_MAC, packets.ETHERTYPE_IPV4, packet)


def echo(port: int, payload: bytes) -> bytes:
    return ip(packets.PROTOCOL_UDP, packets.udp(HOST, IP, Udp(4000, port, payload)))


def ping(number: int) -> bytes:
    rest = bytes((0x12, 0x34)) + number.to_bytes(2, "big") + b"data" * 14
    return ip(packets.PROTOCOL_ICMP, packets.icmp(packets.ICMP_ECHO, rest))


def payload(frame: bytes) -> Ipv4:
    assert frame[:12] == HOST_MAC + MAC
    packet = packets.parse_ipv4(frame[14:])
    assert packet is not None
    assert packet[:2] == (IP, HOST)
    return packet


def test_it_answers_who_asks_for_its_address() -> None:
    wire = Wire()
    (answer,) = wire.answers(arp(packets.ARP_REQUEST))
    assert answer[:12] == HOST_MAC + MAC
    assert packets.parse_arp(answer[14:]) == Arp(packets.ARP_REPLY, MAC, IP, HOST_MAC, HOST)
    assert wire.answers(arp(packets.ARP_REQUEST, HOST)) == []
    assert wire.stack.counters["arp"] == 1


def test_pings_are_answered_in_order_with_their_data() -> None:
    wire = Wire()
    answers = wire.answers(*(ping(number) for number in range(300)))  # more than the ring holds
    assert len(answers) == 300
    for number, answer in enumerate(answers):
        asked = packets.parse_icmp(ping(number)[34:])
        got = packets.parse_icmp(payload(answer).payload)
        assert asked is not None
        assert got == (packets.ICMP_ECHO_REPLY, asked[1])
    assert wire.stack.counters["icmp_echo"] == 300


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 100, bytes(1472)])
def test_udp_echo_sends_a_datagram_back(data: bytes) -> None:
    (answer,) = Wire().answers(echo(stack.ECHO_PORT, data))
    assert packets.parse_udp(payload(answer)) == Udp(stack.ECHO_PORT, 4000, data)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" * 60,
        echo(8, b"nobody there"),
        ip(packets.PROTOCOL_ICMP, packets.icmp(packets.ICMP_ECHO_REPLY, bytes(60))),
        ip(packets.PROTOCOL_ICMP, b"\x08\0"),
        ip(6, b"tcp"),
        ip(packets.PROTOCOL_ICMP, ping(1)[34:], to=HOST),
        ip(packets.PROTOCOL_ICMP, ping(1)[34:], mac=packets.BROADCAST),
        ping(1)[:40],
        ping(1)[:50] + b"\xff" + ping(1)[51:],
        MAC + HOST_MAC + b"\x86\xdd" + bytes(60),
    ],
)
def test_everything_else_is_counted_and_left_alone(frame: bytes) -> None:
    wire = Wire()
    assert wire.answers(frame) == []
    assert wire.stack.counters == {"arp": 0, "icmp_echo": 0, "udp_echo": 0, "other": 1}


def test_a_bound_port_gets_its_datagrams_and_only_those() -> None:
    wire = Wire()
    taken: list[bytes] = []

    def take(frames: Frames) -> None:
        taken.extend(frames.rows())

    wire.stack.bind(9000, take)
    wanted = [echo(9000, bytes((n,)) * 20) for n in range(5)]
    mixed = [frame for frame in wanted for frame in (frame, echo(stack.ECHO_PORT, b"other"))]
    assert len(wire.answers(*mixed)) == 5
    assert taken == wanted


def test_a_neighbour_is_asked_for_once() -> None:
    wire = Wire()

    def answer(frames: list[bytes]) -> None:
        wire.frames.extend(frames)
        reply = Arp(packets.ARP_REPLY, HOST_MAC, HOST, MAC, IP)
        wire.card.arrive(packets.ethernet(MAC, HOST_MAC, packets.ETHERTYPE_ARP, packets.arp(reply)))

    wire.card.wire = answer
    assert wire.stack.resolve(HOST) == HOST_MAC
    (question,) = wire.frames
    assert packets.parse_arp(question[14:]) == Arp(packets.ARP_REQUEST, MAC, IP, bytes(6), HOST)


def test_who_does_not_answer_is_unreachable() -> None:
    wire = Wire()
    with pytest.raises(Unreachable, match=r"no host answers for 192\.0\.2\.1"):
        wire.stack.resolve(HOST, seconds=0.001)
    assert len(wire.frames) == stack.RESOLVE_TRIES


def test_what_comes_while_the_ring_is_full_is_dealt_with_later() -> None:
    wire = Wire()
    wire.card.sending = False
    frames = [ping(number) for number in range(SLOTS - 1)]
    assert wire.answers(*frames) == []

    def wait(timeout: float | None) -> bool:
        """The wire has room again once the guest waits for it."""
        wire.card.sending = True
        wire.card.send()
        return True

    wire.stack.card.wait = wait  # type: ignore[method-assign]
    wire.card.arrive(ping(1000), ping(1001))
    assert wire.stack.make_room() > 0
    assert wire.stack.poll(time.monotonic())
    assert len(wire.frames) == SLOTS - 1 + 2
