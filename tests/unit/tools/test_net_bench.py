"""`coalesced bench e1000` itself, as short as it gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from coalesced.tools.bench import e1000
from coalesced.tools.bench.far_end import FarEnd
from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.bench import Order
from coalesced.tools.guests.network.exchange import ends
from coalesced.tools.guests.network.packets import PAYLOAD_AT, Arp

ROOT = Path(__file__).parents[3]
MAC = bytes.fromhex("525400123456")


@pytest.fixture(autouse=True)
def _guests_find_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


@pytest.mark.heavy
def test_every_kind_of_traffic_with_coalescing_and_without() -> None:
    before = os.sched_getaffinity(0)
    sizes = e1000.Sizes(repetitions=1, part=8)
    steps: list[None] = []
    section = e1000.measure(None, sizes, lambda: steps.append(None))
    assert len(steps) == e1000.steps(sizes) == 2 * (3 * (2 + 1) + 2 * (1 + 1))
    assert os.sched_getaffinity(0) == before
    figures = section.figures
    assert isinstance(figures, e1000.E1000Figures)
    assert figures.frames == 2 * (3 * (2 * 50 + 100) + 2 * (1500 + 1500))
    assert figures.wait == "block"
    assert figures.frame_bytes == 1470
    linux = figures.kinds["transmit"]
    assert (figures.coalesced_pps, figures.exit_pps) == (linux.coalesced.pps, linux.exit.pps)
    for kind in figures.kinds.values():
        for side in (kind.coalesced, kind.exit):
            assert min(of(side.pps), of(side.interrupts_per_frame)) > 0
            assert min(of(side.cpu_us_per_frame.hv), of(side.cpu_us_per_frame.vmm)) > 0
        assert kind.gain_interval is not None
        low, high = kind.gain_interval
        assert low <= of(kind.gain_percent) <= high
    burst = figures.kinds["transmit_burst"]
    gain = (of(burst.coalesced.pps) / of(burst.exit.pps) - 1) * 100
    assert burst.gain_percent == pytest.approx(gain)
    # A write of the tail for each frame, and the five exits of each interrupt, and a halt for 50.
    interrupts = of(linux.coalesced.interrupts_per_frame)
    expected = 1 + 5 * interrupts + 1 / 50
    assert linux.coalesced.exits_per_frame == pytest.approx(expected, abs=0.02)
    # A posted write of the tail is no exit.
    posted = linux.posted
    assert posted is not None
    interrupts = of(posted.interrupts_per_frame)
    assert posted.exits_per_frame == pytest.approx(5 * interrupts + 1 / 50, abs=0.02)
    assert linux.posted_gain_interval is not None
    assert burst.posted is None
    assert {row.what for row in section.rows} >= {
        "receive, --wait adaptive, coalesced",
        "  gain, %",
    }
    assert section.unit == "frames/s"


def of(figure: float | None) -> float:
    assert figure is not None
    return figure


class Line:
    """A wire that takes everything."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frames: Sequence[bytes]) -> int:
        self.frames += frames
        return len(frames)

    def receive_ready(self, timer: bool = False) -> None: ...

    def numbers(self) -> list[int]:
        """Those of the frames that were sent since the last call."""
        frames, self.frames = self.frames, []
        return [int.from_bytes(frame[PAYLOAD_AT : PAYLOAD_AT + 4], "big") for frame in frames]


def far_end() -> tuple[FarEnd, Line]:
    """One that has answered the guest's ARP."""
    line = Line()
    far = FarEnd(line)
    guest, peer = ends(MAC)
    question = Arp(packets.ARP_REQUEST, MAC, guest.ip, bytes(6), peer.ip)
    far.receive(
        [packets.ethernet(packets.BROADCAST, MAC, packets.ETHERTYPE_ARP, packets.arp(question))]
    )
    (answer,) = line.frames
    assert packets.parse_arp(answer[14:]) == Arp(
        packets.ARP_REPLY, peer.mac, peer.ip, MAC, guest.ip
    )
    line.frames.clear()
    return far, line


def data(number: int, length: int) -> bytes:
    return bytes(PAYLOAD_AT) + number.to_bytes(4, "big") + bytes(length - 4)


def test_the_far_end_acknowledges_what_came_in_order() -> None:
    far, line = far_end()
    far.begin(Order("transmit", 10, 100, 64, 1, 4))
    far.receive([data(number, 100) for number in range(6)])
    assert line.numbers() == [4]
    far.receive([data(number, 100) for number in range(6, 10)])
    assert line.numbers() == [8, 10]
    far.begin(Order("transmit", 10, 100, 64, 1, 4))
    far.receive([data(0, 100), data(2, 100), data(1, 99), *(data(n, 100) for n in range(3, 9))])
    assert line.numbers() == []
    assert far.received == 1


def test_the_far_end_sends_by_the_window() -> None:
    far, line = far_end()
    far.begin(Order("receive", 10, 100, 4, 1, 1))
    assert line.numbers() == [0, 1, 2, 3]
    far.receive([data(1, 18)])
    assert line.numbers() == [4]
    far.receive([data(3, 18), data(5, 18)])
    assert line.numbers() == [5, 6, 7, 8]
    far.receive([data(10, 18)])
    assert line.numbers() == [9]
