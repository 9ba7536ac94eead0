"""`coalesced bench e1000` itself, as short as it gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from coalesced.tools.bench import e1000, summary
from coalesced.tools.bench.far_end import FarEnd, Order
from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.exchange import ends
from coalesced.tools.guests.network.packets import PAYLOAD_AT, Arp

ROOT = Path(__file__).parents[3]
MAC = bytes.fromhex("525400123456")


@pytest.fixture(autouse=True)
def _guests_find_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


@pytest.mark.slow
def test_every_kind_of_traffic_with_coalescing_and_without(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    sizes = e1000.Sizes(repetitions=1, part=8)
    steps: list[None] = []
    section = e1000.measure(None, sizes, lambda: steps.append(None))
    assert len(steps) == e1000.steps(sizes) == 2 * 2 * (3 + 1 + 1 + 1)
    assert os.sched_getaffinity(0) == before
    values = cast("dict[str, Any]", section.values)
    assert values["frames"] == 2 * 2 * (3 * 50 + 100 + 1500 + 1500)
    assert values["wait"] == "block"
    assert values["frame_bytes"] == 1470
    assert values["coalesced_pps"] == values["kinds"]["transmit"]["coalesced"]["pps"] > 0
    assert values["exit_pps"] == values["kinds"]["transmit"]["exit"]["pps"] > 0
    for kind in values["kinds"].values():
        ours, theirs = kind["coalesced"], kind["exit"]
        for figures in (ours, theirs):
            assert min(figures["cpu_us_per_frame"].values()) > 0
            assert figures["interrupts_per_frame"] > 0
        low, high = kind["gain_interval"]
        assert low <= kind["gain_percent"] <= high
    burst = values["kinds"]["transmit_burst"]
    gain = (burst["coalesced"]["pps"] / burst["exit"]["pps"] - 1) * 100
    assert burst["gain_percent"] == pytest.approx(gain, abs=0.01)
    linux = values["kinds"]["transmit"]["coalesced"]
    # A write of the tail for each frame, and the five exits of each interrupt, and one halt.
    assert linux["exits_per_frame"] == pytest.approx(
        1 + 5 * linux["interrupts_per_frame"], abs=0.02
    )
    assert {row[0] for row in section.rows} >= {
        "receive, --wait adaptive, coalesced",
        "  gain, %",
    }
    assert section.unit == "frames/s"
    summary.write(tmp_path / "table.md", [section], {"cpus": 2, "cpu": "x"})
    lines = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| frames of 1,470 bytes transmitted as in Linux's trace, `--wait block`",
        "| frames, the same, `--wait adaptive`",
        "| frames, transmitted, TDT for 32 frames, `--wait adaptive`",
        "| frames, received, `--wait adaptive`",
    ]
    assert all("frames/s when every write exits; gained: " in line for line in lines)


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
    far.begin(Order("transmit", 10, 100, 64, 4))
    far.receive([data(number, 100) for number in range(6)])
    assert line.numbers() == [4]
    far.receive([data(number, 100) for number in range(6, 10)])
    assert line.numbers() == [8, 10]
    far.begin(Order("transmit", 10, 100, 64, 4))
    far.receive([data(0, 100), data(2, 100), data(1, 99), *(data(n, 100) for n in range(3, 9))])
    assert line.numbers() == []
    assert far.received == 1


def test_the_far_end_sends_by_the_window() -> None:
    far, line = far_end()
    far.begin(Order("receive", 10, 100, 4, 1))
    assert line.numbers() == [0, 1, 2, 3]
    far.receive([data(1, 18)])
    assert line.numbers() == [4]
    far.receive([data(3, 18), data(5, 18)])
    assert line.numbers() == [5, 6, 7, 8]
    far.receive([data(10, 18)])
    assert line.numbers() == [9]
