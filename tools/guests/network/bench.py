"""The guest of `coalesced bench e1000`: sends or receives frames on request.

Both directions go by a window: the far end tells by small frames how many have arrived, as TCP's
acknowledgements do, and the sender keeps no more than the window under way. So nothing is lost,
and the time of a run is that of the frames all the way.
"""

from __future__ import annotations

import time
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


def run(vcpu: Vcpu) -> None:
    """Halt, execute the order in the mailbox, leave a report, and repeat.

    The mailbox: `kind` "transmit" or "receive", `frames`, `length` (bytes of UDP payload),
    `window`, `each` (frames per write of the tail).
    """
    bus = vcpu.bus
    if not isinstance(bus, core.Vcpu):
        raise TypeError("this guest runs in a guest process only")
    card = Card(vcpu)
    say_hello(card)
    kinds = {"transmit": _transmit, "receive": _receive}
    patterns: dict[int, Pattern] = {}
    while True:
        bus.halt()
        order = memory.read_order(vcpu)
        kind, length = str(order["kind"]), int(str(order["length"]))
        sent = length if kind == "transmit" else ACK_PAYLOAD
        if sent not in patterns:
            patterns[sent] = Pattern(*ends(card.mac), SEED, sent)
        frames, window, each = (int(str(order[key])) for key in ("frames", "window", "each"))
        interrupts = card.interrupts
        started, cpu = time.monotonic_ns(), time.process_time_ns()
        kinds[kind](card, patterns[sent], frames, window, each)
        memory.leave_report(
            vcpu,
            {
                "ns": time.monotonic_ns() - started,
                "cpu_ns": time.process_time_ns() - cpu,
                "interrupts": card.interrupts - interrupts,
            },
        )


def _transmit(card: Card, data: Pattern, frames: int, window: int, each: int) -> None:
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


def _receive(card: Card, acks: Pattern, frames: int, window: int, _each: int) -> None:
    received = acked = 0
    while acked < frames:
        _wait(card)
        for part in card.service():
            count = len(part.lengths)
            first, last = _number(part, 0), _number(part, -1)
            if first != received or last != received + count - 1:
                raise ValueError(f"expected frames from {received} on, got {first} to {last}")
            received += count
        if received - acked >= window // 4 or received == frames:
            card.send(acks.frames(received, 1))
            acked = received


def _latest(received: list[Frames], before: int) -> int:
    """How many frames the far end has, by the last of its frames."""
    return _number(received[-1], -1) if received else before


def _number(frames: Frames, at: int) -> int:
    return int.from_bytes(frames.block[at, PAYLOAD_AT : PAYLOAD_AT + 4].tobytes(), "big")


def _wait(card: Card) -> None:
    if not card.wait(STALL_SECONDS):
        raise TimeoutError(f"nothing from the far end for {STALL_SECONDS:.0f} s")
