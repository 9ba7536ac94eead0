"""The driver: rings of any history, and the accesses of Linux's e1000."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.tools.guests.network.blocks import of_rows
from coalesced.tools.guests.network.card import BUDGET, Card
from coalesced.tools.guests.network.rings import REFILL_EVERY, SLOTS
from helpers.net_card import MAC, FakeCard


def started() -> tuple[FakeCard, Card, list[bytes]]:
    """A card, its driver, and what went over the wire."""
    wire: list[bytes] = []
    fake = FakeCard(wire.extend)
    card = Card(fake)
    fake.log.clear()
    return fake, card, wire


def numbered(first: int, count: int) -> list[bytes]:
    """Frames of lengths of their own."""
    return [
        number.to_bytes(4, "big").ljust(60 + number * 37 % 1455, b"\x5a")
        for number in range(first, first + count)
    ]


def test_the_card_is_found_and_has_the_address_of_its_eeprom() -> None:
    _, card, _ = started()
    assert card.mac == MAC


def test_without_a_card_it_says_so() -> None:
    class Empty(FakeCard):
        def in32(self, port: int) -> int:
            return 0xFFFF_FFFF

    with pytest.raises(LookupError, match="no PCI device 8086:100e on bus 0"):
        Card(Empty())


@pytest.mark.slow
@given(st.data())
def test_frames_go_both_ways_in_order_whatever_the_bursts(data: st.DataObject) -> None:
    fake, card, wire = started()
    sent: list[bytes] = []
    arrived: list[bytes] = []
    taken: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(("send", "arrive", "service", "hold", "release")))
        if kind == "send":
            most = min(card.transmitter.room, 100)
            frames = numbered(len(sent), data.draw(st.integers(0, most)))
            card.send(of_rows(frames), data.draw(st.sampled_from((None, 1, 7))))
            sent += frames
        elif kind == "arrive":
            frames = numbered(len(arrived), data.draw(st.integers(0, 300)))
            fake.arrive(*frames)
            arrived += frames
        elif kind == "service":
            taken += [row for part in card.service() for row in part.rows()]
        else:
            fake.sending = kind == "release"
            fake.send() if fake.sending else None
    fake.sending = True
    fake.send()
    while card.wait(0):
        taken += [row for part in card.service() for row in part.rows()]
    assert wire == sent
    assert taken == arrived
    assert fake.held == []
    assert card.transmitter.room == SLOTS - 1


def test_an_interrupt_is_served_with_linuxs_accesses() -> None:
    fake, card, _ = started()
    card.send(of_rows(numbered(0, 3)), each=1)
    assert fake.log == ["write TDT"] * 3
    fake.log.clear()
    fake.arrive(*[b"\x5a" * 1514] * (REFILL_EVERY + 1))
    card.service()
    start, end = ["read ICR", "write IMC", "read STATUS"], ["write IMS", "read STATUS"]
    assert fake.log == [*start, "write RDT", "write RDT", "write ITR", *end]
    fake.log.clear()
    fake.arrive(*numbered(0, 2))
    card.service()
    assert fake.log == [*start, "write RDT", "write ITR", *end]  # faster again, step by step
    fake.log.clear()
    assert card.service() == []
    assert fake.log == ["read ICR"]  # another device's interrupt


def test_while_frames_come_faster_than_they_are_taken_interrupts_stay_off() -> None:
    fake, card, _ = started()
    fake.arrive(*numbered(0, 2 * BUDGET + 1))
    assert sum(len(part.lengths) for part in card.service()) == BUDGET
    assert "write IMS" not in fake.log
    assert card.raised()
    fake.log.clear()
    assert sum(len(part.lengths) for part in card.service()) == BUDGET
    assert set(fake.log) == {"write RDT"}
    assert sum(len(part.lengths) for part in card.service()) == 1
    assert fake.log[-2:] == ["write IMS", "read STATUS"]
    assert not card.raised()


def test_waiting_frames_are_counted_without_touching_the_card() -> None:
    fake, card, _ = started()
    for count in (0, 40, 200, 40):  # the last ones wrap
        fake.arrive(*numbered(0, count))
        fake.log.clear()
        assert card.receiver.waiting() == count
        assert card.receiver.waiting(30) == min(count, 30)
        assert fake.log == []
        while card.raised():
            card.service()


def test_more_frames_than_there_is_room_for_are_refused() -> None:
    fake, card, _ = started()
    fake.sending = False
    card.send(of_rows(numbered(0, SLOTS - 1)))
    assert card.transmitter.room == 0
    with pytest.raises(ValueError, match="1 frames for 0 free descriptors"):
        card.send(of_rows(numbered(0, 1)))


def test_a_frame_over_several_descriptors_counts_as_empty() -> None:
    fake, card, _ = started()
    fake.arrive(*numbered(0, 3))
    ring = card.receiver.ring
    fake.memory[ring + 16 + 12] = 0x01  # done, but not the end of a packet
    (part,) = card.service()
    assert part.lengths.tolist()[1] == 0
    assert np.count_nonzero(part.lengths) == 2
