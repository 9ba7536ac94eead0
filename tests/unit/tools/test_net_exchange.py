"""The demonstration's two ends, put together without a network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from coalesced.tools.guests.network import exchange, memory
from coalesced.tools.runs.exchange import Peer, free_ports
from helpers.net_card import FakeCard


class Line:
    """A wire (`devices.bus.device.Wire`) that takes few frames at a time, to a card."""

    def __init__(self, card: FakeCard) -> None:
        self.card = card
        self.damage: set[int] = set()  # numbers of frames to spoil on their way to the guest
        self.peer: Peer | None = None
        self._count = 0

    def send(self, frames: Sequence[bytes]) -> int:
        for frame in frames[:5]:
            spoilt = (
                bytes((frame[0],))
                + frame[1:-1]
                + bytes((frame[-1] ^ (self._count in self.damage),))
            )
            self.card.arrive(spoilt)
            self._count += 1
        return min(len(frames), 5)

    def receive_ready(self, timer: bool = False) -> None: ...

    def to_peer(self, frames: list[bytes]) -> None:
        """The guest's frames, in two parts; then the wire has room again."""
        assert self.peer is not None
        half = len(frames) // 2
        for part in (frames[:half], frames[half:]):
            assert self.peer.receive(part) == len(part)
        for _ in range(20):
            self.peer.resume_transmit()


def run(
    frames: int, burst: int, each: int, damage: tuple[int, ...] = ()
) -> tuple[dict[str, object], Peer]:
    """The guest's report, and its peer."""
    card = FakeCard()
    line = Line(card)
    line.damage = set(damage)
    line.peer = peer = Peer(line, frames, burst)
    card.wire = line.to_peer
    exchange.exchange(card, frames, burst, each)
    return memory.read_report(lambda at, size: bytes(card.read_memory(at, size))), peer


@pytest.mark.parametrize(
    ("frames", "burst", "each"), [(1, 1, 1), (100, 32, 32), (100, 7, 1), (600, 63, 10)]
)
def test_every_frame_arrives_as_it_was_sent(frames: int, burst: int, each: int) -> None:
    report, peer = run(frames, burst, each)
    assert report["sent"] == report["received"] == peer.received == frames
    assert report["wrong"] == peer.wrong == 0
    assert report["digest"] != peer.digest
    assert report["interrupts"] == 1 + -(-frames // burst)


def test_what_was_sent_does_not_depend_on_the_bursts() -> None:
    (one, first), (other, second) = run(100, 7, 1), run(100, 50, 50)
    assert one["digest"] == other["digest"]
    assert first.digest == second.digest


def test_a_wrong_byte_is_counted() -> None:
    report, peer = run(100, 32, 32, damage=(3, 77))
    assert (report["received"], report["wrong"]) == (100, 2)
    assert peer.wrong == 0


def test_a_frame_that_the_guest_did_not_have_to_send_is_wrong() -> None:
    card = FakeCard()
    line = Line(card)
    peer = Peer(line, 10, 10)
    peer.receive([bytes(60)])
    assert peer.wrong == 1


def test_a_guest_that_gets_nothing_says_so() -> None:
    with pytest.raises(TimeoutError, match="0 of 1 frames came"):
        exchange.exchange(FakeCard(), 10, 10, 10, stall=0.01)


def test_ports_are_free_and_two() -> None:
    one, other = free_ports()
    assert one != other
    assert 0 < min(one, other) <= max(one, other) < 1 << 16
