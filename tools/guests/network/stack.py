"""A host on the wire: answers ARP, ping and UDP echo, and passes UDP datagrams to bound ports."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.blocks import Frames, Host, of_rows, udp_to
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.packets import Arp, Ipv4, Udp

ECHO_PORT: Final = 7  # RFC 862
RESOLVE_SECONDS: Final = (
    3.0  # between two requests; the card receives nothing for a second after its start
)
RESOLVE_TRIES: Final = 5
_NEIGHBOURS: Final = 1024  # most addresses that are kept

Bulk = Callable[[Frames], None]


class Unreachable(Exception):
    """A host that gives no answer."""


class Stack:
    """An IPv4 host behind a card. One subnet: every host that it talks to is on the wire.

    `counters` counts the answers, by name.
    """

    def __init__(self, card: Card, ip: bytes) -> None:
        self.card = card
        self.ip = ip
        self.mac = card.mac
        self.neighbours: dict[bytes, bytes] = {}
        self.counters = dict.fromkeys(("arp", "icmp_echo", "udp_echo", "other"), 0)
        self.before_answers: Callable[[], None] = lambda: None  # called when they are counted
        self._ports: dict[int, Bulk] = {}
        self._backlog: deque[Frames] = deque()

    def bind(self, port: int, take: Bulk) -> None:
        """Pass the datagrams to a UDP port to `take`, many at a time."""
        self._ports[port] = take

    # --- out ---

    def transmit(self, frames: Frames, each: int | None = None) -> None:
        """Send frames, waiting for room in the ring; frames that arrive are handled later.

        `each`: how many are shown to the card at once, interrupts being served in between.
        """
        card, done, total = self.card, 0, len(frames.lengths)
        while done < total:
            part = min(self.make_room(), total - done)
            card.transmitter.fill(frames.part(done, done + part))
            done += part
            while part > 0:
                step = part if each is None else min(each, part)
                card.show(step)
                part -= step
                if part and card.raised():
                    self._backlog.extend(card.service())

    def make_room(self) -> int:
        """Wait until a frame can be sent; how many can."""
        transmitter = self.card.transmitter
        while not transmitter.room:
            self.card.wait(None)
            self._backlog.extend(self.card.service())
        return transmitter.room

    def send_row(self, frame: bytes) -> None:
        """Send one frame."""
        self.transmit(of_rows([frame]))

    def resolve(self, ip: bytes, seconds: float = RESOLVE_SECONDS) -> bytes:
        """The MAC address of a host on the wire, asked for every `seconds`. Raises Unreachable."""
        for _ in range(RESOLVE_TRIES):
            request = Arp(packets.ARP_REQUEST, self.mac, self.ip, bytes(6), ip)
            self._send_arp(packets.BROADCAST, request)
            deadline = time.monotonic() + seconds
            while ip not in self.neighbours and time.monotonic() < deadline:
                self.poll(deadline)
            if ip in self.neighbours:
                return self.neighbours[ip]
        raise Unreachable(f"no host answers for {'.'.join(map(str, ip))}")

    # --- in ---

    def poll(self, until: float) -> bool:
        """Handle received frames, or wait for some until time.monotonic() is `until`.

        False when nothing came.
        """
        if self.card.wait(max(0.0, until - time.monotonic())):
            self._backlog.extend(self.card.service())
        some = bool(self._backlog)
        while self._backlog:
            self.receive(self._backlog.popleft())
        return some

    def receive(self, frames: Frames) -> None:
        """Handle frames: those to a bound port together, the others one by one."""
        for port, take in self._ports.items():
            ours = udp_to(frames, self.mac, self.ip, port)
            if ours.any():
                take(frames.where(ours))
                frames = frames.where(~ours)
        if len(frames.lengths):
            self._receive_rows(frames.rows())

    def _receive_rows(self, rows: Sequence[bytes]) -> None:
        answers = []
        for row in rows:
            source, ethertype, data = row[6:12], row[12:14], row[packets.ETHERNET_SIZE :]
            answer = None
            if ethertype == b"\x08\x00" and row[:6] == self.mac:
                answer = self._ipv4(source, data)
            elif ethertype == b"\x08\x06":
                answer = self._arp(data)
            else:
                self.counters["other"] += 1
            if answer is not None:
                answers.append(answer)
        if answers:
            self.before_answers()
            self.transmit(of_rows(answers))

    def _arp(self, data: bytes) -> bytes | None:
        packet = packets.parse_arp(data)
        if packet is None or packet.target_ip != self.ip:
            self.counters["other"] += 1
            return None
        if len(self.neighbours) < _NEIGHBOURS or packet.sender_ip in self.neighbours:
            self.neighbours[packet.sender_ip] = packet.sender_mac
        if packet.operation != packets.ARP_REQUEST:
            return None
        self.counters["arp"] += 1
        reply = Arp(packets.ARP_REPLY, self.mac, self.ip, packet.sender_mac, packet.sender_ip)
        return self._ethernet(packet.sender_mac, packets.ETHERTYPE_ARP, packets.arp(reply))

    def _ipv4(self, source: bytes, data: bytes) -> bytes | None:
        packet = packets.parse_ipv4(data)
        if packet is not None and packet.destination == self.ip:
            answer = None
            if packet.protocol == packets.PROTOCOL_ICMP:
                answer = self._icmp(packet)
            elif packet.protocol == packets.PROTOCOL_UDP:
                answer = self._udp(packet)
            if answer is not None:
                reply = Ipv4(self.ip, packet.source, packet.protocol, answer)
                return self._ethernet(source, packets.ETHERTYPE_IPV4, packets.ipv4(reply))
        self.counters["other"] += 1
        return None

    def _icmp(self, packet: Ipv4) -> bytes | None:
        message = packets.parse_icmp(packet.payload)
        if message is None or message[0] != packets.ICMP_ECHO:
            return None
        self.counters["icmp_echo"] += 1
        return packets.icmp(packets.ICMP_ECHO_REPLY, message[1])

    def _udp(self, packet: Ipv4) -> bytes | None:
        datagram = packets.parse_udp(packet)
        if datagram is None or datagram.destination_port != ECHO_PORT:
            return None
        self.counters["udp_echo"] += 1
        echo = Udp(ECHO_PORT, datagram.source_port, datagram.payload)
        return packets.udp(self.ip, packet.source, echo)

    def host(self, port: int) -> Host:
        """This end of a UDP flow."""
        return Host(self.mac, self.ip, port)

    def _send_arp(self, to: bytes, packet: Arp) -> None:
        self.send_row(self._ethernet(to, packets.ETHERTYPE_ARP, packets.arp(packet)))

    def _ethernet(self, to: bytes, ethertype: int, payload: bytes) -> bytes:
        return packets.ethernet(to, self.mac, ethertype, payload)
