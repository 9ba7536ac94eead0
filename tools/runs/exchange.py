"""The peer of `demo e1000`: checks the guest's frames and sends its own."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from coalesced.devices.bus.device import Wire
from coalesced.tools.guests.network import exchange, packets
from coalesced.tools.guests.network.blocks import of_rows
from coalesced.tools.guests.network.packets import Arp
from coalesced.tools.guests.network.pattern import Pattern

LOOPBACK: Final = "127.0.0.1"


class Peer:
    """A host on the wire (`devices.bus.device.Card`) that exchanges frames with the guest.

    It answers the guest's ARP; then, once it has all frames of a round, it sends as many.
    """

    def __init__(self, wire: Wire, frames: int, burst: int) -> None:
        """`frames` each way, `burst` to a round."""
        self._wire = wire
        self._frames = frames
        self._burst = burst
        self._digest = hashlib.blake2b(digest_size=16)
        self._expected: Pattern | None = None
        self._pattern: Pattern | None = None
        self._to_check: list[bytes] = []
        self._to_send: list[bytes] = []
        self._sent = 0
        self.received = 0
        self.first_frame = 0  # CLOCK_MONOTONIC nanoseconds, of the first after the ARP
        self.wrong = 0  # frames that differ from what the guest had to send

    @property
    def digest(self) -> str:
        """A digest of every received byte, except the guest's ARP."""
        return self._digest.hexdigest()

    def can_receive(self) -> bool:
        return True

    def receive(self, frames: Sequence[bytes]) -> int:
        """Take frames; check and answer them when a round is complete."""
        self._to_check += frames
        if self._to_check and self._expected is None:
            self._answer_arp(self._to_check.pop(0))
        if self._to_check and not self.first_frame:
            self.first_frame = time.monotonic_ns()
        round_ends = min(self._sent + self._burst, self._frames)
        if self._to_check and self.received + len(self._to_check) >= round_ends:
            self._check()
            self._send_round()
        self.resume_transmit()
        return len(frames)

    def resume_transmit(self) -> None:
        """Send as many frames as the wire has room for."""
        if self._to_send:
            self._to_send = self._to_send[self._wire.send(self._to_send) :]

    def _answer_arp(self, frame: bytes) -> None:
        question = packets.parse_arp(frame[packets.ETHERNET_SIZE :])
        if question is None:
            self.wrong += 1
            return
        ours, theirs = question.target_ip, question.sender_mac
        guest, peer = exchange.ends(theirs)
        self._expected = Pattern(guest, peer, exchange.SENT_SEED)
        self._pattern = Pattern(peer, guest, exchange.RECEIVED_SEED)
        answer = Arp(packets.ARP_REPLY, peer.mac, ours, theirs, question.sender_ip)
        self._to_send.append(
            packets.ethernet(theirs, peer.mac, packets.ETHERTYPE_ARP, packets.arp(answer))
        )

    def _check(self) -> None:
        assert self._expected is not None
        frames, self._to_check = self._to_check, []
        self.wrong += self._expected.wrong(of_rows(frames), self.received)
        self.received += len(frames)
        for frame in frames:
            self._digest.update(frame)

    def _send_round(self) -> None:
        assert self._pattern is not None
        count = min(self._burst, self._frames - self._sent)
        self._to_send += self._pattern.frames(self._sent, count).rows()
        self._sent += count


def free_ports() -> tuple[int, int]:
    """Two free UDP ports of this host."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        ]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        first, second = (each.getsockname()[1] for each in sockets)
        return first, second
