"""A guest that sends numbered frames and gets as many back, checking every byte.

It works in rounds: it sends a burst, and the other end answers with as many once it has all of
them. The guest looks at its descriptors in RAM until a round is complete, and only then serves the
card's interrupt, so that its accesses to the card do not depend on how fast anything is.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Final

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import memory, packets
from coalesced.tools.guests.network.blocks import Frames, Host, of_rows
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.packets import Arp
from coalesced.tools.guests.network.pattern import Pattern

GUEST_IP: Final = bytes((192, 0, 2, 2))  # RFC 5737: addresses for documentation
PEER_IP: Final = bytes((192, 0, 2, 1))
PEER_MAC: Final = bytes.fromhex("525400 0000fe")
GUEST_PORT: Final = 50_000
PEER_PORT: Final = 50_001
SENT_SEED: Final = 2008
RECEIVED_SEED: Final = 97

_LOOK_SECONDS: Final = 50e-6  # between two looks at the descriptors
STALL_SECONDS: Final = 20.0  # without a frame: something is wrong


@dataclass(frozen=True)
class Report:
    """The guest's counts of frames, and a digest of every byte that it received."""

    sent: int
    received: int
    wrong: int
    digest: str
    interrupts: int


def exchange(vcpu: Vcpu, frames: int, burst: int, each: int, stall: float = STALL_SECONDS) -> None:
    """Send `frames` frames and receive as many, `burst` of them in a round; leave a report.

    The tail register moves after every `each` frames. Raises TimeoutError when `stall` seconds
    pass without a round's frames.
    """
    card = Card(vcpu)
    ours, theirs = ends(card.mac)
    sent, expected = Pattern(ours, theirs, SENT_SEED), Pattern(theirs, ours, RECEIVED_SEED)
    say_hello(card, stall)
    digest = hashlib.blake2b(digest_size=16)
    received = wrong = 0
    while received < frames:
        count = min(burst, frames - received)
        card.send(sent.frames(received, count), each)
        for part in _round(card, count, stall):
            wrong += expected.wrong(part, received)
            received += len(part.lengths)
            for row in part.rows():
                digest.update(row)
    report = Report(received, received, wrong, digest.hexdigest(), card.interrupts)
    memory.leave_report(vcpu, report)


def ends(mac: bytes) -> tuple[Host, Host]:
    """The guest's and the other end of the flow, by the guest's MAC address."""
    return Host(mac, GUEST_IP, GUEST_PORT), Host(PEER_MAC, PEER_IP, PEER_PORT)


def say_hello(card: Card, stall: float = STALL_SECONDS) -> None:
    """Announce the card's address by ARP; the answer shows that the card can receive."""
    question = Arp(packets.ARP_REQUEST, card.mac, GUEST_IP, bytes(6), PEER_IP)
    frame = packets.ethernet(
        packets.BROADCAST, card.mac, packets.ETHERTYPE_ARP, packets.arp(question)
    )
    card.send(of_rows([frame]))
    (answer,) = _round(card, 1, stall)
    packet = packets.parse_arp(answer.rows()[0][packets.ETHERNET_SIZE :])
    if packet is None or packet.sender_mac != PEER_MAC:
        raise ValueError("the first frame from the other end does not answer this card's ARP")


def _round(card: Card, count: int, stall: float) -> list[Frames]:
    """Wait until `count` frames are there, then serve the card once and take them."""
    deadline = time.monotonic() + stall
    while (found := card.receiver.waiting(count)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} of {count} frames came within {stall:.0f} s")
        card.pause(_LOOK_SECONDS)
    if not card.wait(stall):
        raise TimeoutError(f"{count} frames came, but no interrupt for {stall:.0f} s")
    return card.service()
