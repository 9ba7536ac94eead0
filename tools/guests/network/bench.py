"""The guest of `coalesced bench e1000`: sends or receives frames on request.

Both directions use a window: the receiver acknowledges frames by small ones, as TCP does, and the
sender keeps at most a window of unacknowledged frames. So no frame is lost, and the time of a run
covers the whole way of its frames.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from coalesced.hv import core
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.blocks import Frames
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.exchange import ends, say_hello
from coalesced.tools.guests.network.packets import PAYLOAD_AT
from coalesced.tools.guests.network.pattern import Pattern

BURST: Final = 32  # frames that are made at once
ACK_PAYLOAD: Final = 18  # bytes: the shortest frame
SEED: Final = 2008
STALL_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Order:
    """A task for the guest and the far end."""

    kind: str  # "transmit": the guest sends; "receive": the far end does
    frames: int
    length: int  # bytes of UDP payload
    window: int  # frames under way
    each: int  # frames that the guest sends for each write of the tail
    ack_every: int  # frames that the far end acknowledges by one


@dataclass(frozen=True)
class Report:
    """The guest's measurements of one order."""

    ns: int
    cpu_ns: int
    interrupts: int


def run(vcpu: Vcpu) -> None:
    """Halt, execute the order in the mailbox, leave a report, and repeat."""
    bus = vcpu.bus
    if not isinstance(bus, core.Vcpu):
        raise TypeError("this guest runs in a guest process only")
    card = Card(vcpu)
    say_hello(card)
    kinds = {"transmit": _transmit, "receive": _receive}
    patterns: dict[int, Pattern] = {}
    while True:
        bus.halt()
        order = Order(**memory.read_order(vcpu))
        sent = order.length if order.kind == "transmit" else ACK_PAYLOAD
        if sent not in patterns:
            patterns[sent] = Pattern(*ends(card.mac), SEED, sent)
        interrupts = card.interrupts
        started, cpu = time.monotonic_ns(), time.process_time_ns()
        kinds[order.kind](card, patterns[sent], order)
        report = Report(
            time.monotonic_ns() - started,
            time.process_time_ns() - cpu,
            card.interrupts - interrupts,
        )
        memory.leave_report(vcpu, report)


def _transmit(card: Card, data: Pattern, order: Order) -> None:
    frames, window, each = order.frames, order.window, order.each
    sent = acked = 0
    while acked < frames:
        count = min(BURST, frames - sent, window - (sent - acked), card.transmitter.room)
        if count > 0:
            card.transmitter.fill(data.frames(sent, count))
            sent += count
        while count > 0:
            card.show(min(each, count))
            count -= each
            if card.raised():
                acked = _latest(card.service(), acked)
        under_way = sent - acked
        if under_way and (sent == frames or under_way >= window or not card.transmitter.room):
            _wait(card)
            acked = _latest(card.service(), acked)


def _receive(card: Card, acks: Pattern, order: Order) -> None:
    received = acked = 0
    while acked < order.frames:
        _wait(card)
        for part in card.service():
            count = len(part.lengths)
            first, last = _number(part, 0), _number(part, -1)
            if first != received or last != received + count - 1:
                raise ValueError(f"expected frames from {received} on, got {first} to {last}")
            received += count
        if received - acked >= order.window // 4 or received == order.frames:
            card.send(acks.frames(received, 1))
            acked = received


def _latest(received: list[Frames], before: int) -> int:
    """The number of frames that the far end has acknowledged, from its last frame."""
    return _number(received[-1], -1) if received else before


def _number(frames: Frames, at: int) -> int:
    return int.from_bytes(frames.block[at, PAYLOAD_AT : PAYLOAD_AT + 4].tobytes(), "big")


def _wait(card: Card) -> None:
    if not card.wait(STALL_SECONDS):
        raise TimeoutError(f"nothing from the far end for {STALL_SECONDS:.0f} s")
