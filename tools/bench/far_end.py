"""The far end of a network benchmark: a process at the other end of a UDP socket."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.device import Wire
from coalesced.tools.bench.spawn import Spawned
from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.bench import ACK_PAYLOAD, Order
from coalesced.tools.guests.network.blocks import Host
from coalesced.tools.guests.network.exchange import PEER_IP, ends
from coalesced.tools.guests.network.packets import PAYLOAD_AT, PROTOCOL_UDP, Arp, Ipv4, Udp
from coalesced.tools.runs.exchange import LOOPBACK
from coalesced.vmm.loop import Loop
from coalesced.vmm.netdev.host import Host as NetworkHost
from coalesced.vmm.netdev.network import Network

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control

NAP: Final = 100e-6
"""Seconds that the far end sleeps between two looks at its socket.

A real machine moderates its interrupts in the same way, and the cost of a frame here does not
include waking the far end."""

_NUMBER: Final = struct.Struct("!I")


class FarEnd:
    """A card (`devices.bus.device.Card`) that acknowledges frames, or sends them by a window."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pending: list[bytes] = []
        self._ends: tuple[Host, Host] | None = None
        self.order = Order("transmit", 0, 0, 0, 1, 1)
        self.begin(self.order)

    def begin(self, order: Order) -> None:
        """Take an order, and start to send at once."""
        self.order = order
        self.received = self.acked = self.sent = 0
        if self._ends is not None:
            guest, peer = self._ends
            self._ack = _frame(peer, guest, bytes(ACK_PAYLOAD))
            self._data = _frame(peer, guest, os.urandom(max(order.length, 4)))
            self._send_window(0)

    def can_receive(self) -> bool:
        return True

    def receive(self, frames: Sequence[bytes]) -> int:
        """Take the guest's frames: data, acknowledgements, or its ARP."""
        if self._ends is None:
            self._answer_arp(frames[0])
        elif self.order.kind == "receive":
            self._send_window(_number(frames[-1]))
        else:
            self._take(frames)
        return len(frames)

    def resume_transmit(self) -> None:
        """Send as many frames as the wire has room for."""
        if self._pending:
            self._pending = self._pending[self._wire.send(self._pending) :]

    def _take(self, frames: Sequence[bytes]) -> None:
        """Count frames up to the first that is out of order; the guest then times out."""
        size = PAYLOAD_AT + self.order.length
        every, last = self.order.ack_every, self.order.frames
        for frame in frames:
            if len(frame) != size or _number(frame) != self.received:
                return
            self.received += 1
            if self.received == self.acked + every or self.received == last:
                self.acked = self.received
                self._pending.append(_numbered(self._ack, self.acked))
        self.resume_transmit()

    def _send_window(self, acked: int) -> None:
        if self.order.kind != "receive":
            return
        stop = min(self.order.frames, acked + self.order.window)
        self._pending += [_numbered(self._data, number) for number in range(self.sent, stop)]
        self.sent = max(self.sent, stop)
        self.resume_transmit()

    def _answer_arp(self, frame: bytes) -> None:
        question = packets.parse_arp(frame[packets.ETHERNET_SIZE :])
        if question is None:
            return
        self._ends = guest, peer = ends(question.sender_mac)
        answer = Arp(packets.ARP_REPLY, peer.mac, PEER_IP, guest.mac, guest.ip)
        self._pending.append(
            packets.ethernet(guest.mac, peer.mac, packets.ETHERTYPE_ARP, packets.arp(answer))
        )
        self.resume_transmit()


class FarProcess:
    """A process with a far end in it."""

    def __init__(self, local: int, remote: int) -> None:
        """`local` and `remote` are UDP ports on loopback."""
        self._process = Spawned(_serve, local, remote)
        self.close = self._process.close

    def begin(self, order: Order) -> None:
        """Give an order; returns when it is taken."""
        self._process.ask(order)


class NearEnd:
    """A far end in the process of the VMM: two processes for two CPUs, without a third."""

    def __init__(self, loop: Loop, local: int, remote: int) -> None:
        """Served by `loop`; `local` and `remote` are UDP ports on loopback."""
        network, self._far = _plug_in(loop, local, remote)
        self.begin = self._far.begin
        self.close = network.close


def _plug_in(loop: Loop, local: int, remote: int) -> tuple[Network, FarEnd]:
    network = Network(NetworkHost(loop))
    network.add(f"dgram,id=far,local={LOOPBACK}:{local},remote={LOOPBACK}:{remote}")
    wire = network.take("far", "the far end")
    far = FarEnd(wire)
    wire.connect(far)
    return network, far


def _serve(local: int, remote: int, control: Control) -> None:
    """Main of the process: frames and orders."""
    loop = Loop()
    _, far = _plug_in(loop, local, remote)

    def take_order() -> None:
        far.begin(control.recv())
        control.send(None)

    loop.add_reader(control.fileno(), take_order)
    control.send(None)
    while True:
        loop.wait(loop.timeout())
        loop.run_timers()
        time.sleep(NAP)


def _frame(source: Host, destination: Host, payload: bytes) -> bytes:
    datagram = packets.udp(source.ip, destination.ip, Udp(source.port, destination.port, payload))
    # No checksum (RFC 768): the number changes.
    datagram = datagram[:6] + b"\0\0" + datagram[8:]
    packet = packets.ipv4(Ipv4(source.ip, destination.ip, PROTOCOL_UDP, datagram))
    return packets.ethernet(destination.mac, source.mac, packets.ETHERTYPE_IPV4, packet)


def _number(frame: bytes) -> int:
    number: int = _NUMBER.unpack_from(frame, PAYLOAD_AT)[0]
    return number


def _numbered(frame: bytes, number: int) -> bytes:
    return frame[:PAYLOAD_AT] + _NUMBER.pack(number) + frame[PAYLOAD_AT + 4 :]
