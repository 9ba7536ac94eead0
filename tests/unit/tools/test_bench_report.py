"""Figures as JSON and as tables."""

from __future__ import annotations

import json

import pytest

from tools.bench import report
from tools.bench.exits import ExitResult
from tools.bench.measure import Spread
from tools.bench.ring import RingResult
from tools.bench.vga import VgaResult

EXIT = ExitResult(
    Spread(10.0, 9.0, 11.0),
    {
        "block": Spread(12.0, 11.0, 13.0),
        "adaptive": Spread(2.0, 1.0, 3.0),
        "poll": Spread(1.5, 1.0, 2.0),
    },
    {"block": (12.0, 20.0), "adaptive": (2.0, 9.0), "poll": (1.0, 4.0)},
)
RING = RingResult(
    8,
    Spread(8.0, 7.0, 9.0),
    Spread(30.0, 20.0, 40.0),
    123.4,
    {"Slow": Spread(2000.0, 1.0, 2.0), "Quick": Spread(1600.0, 1.0, 2.0)},
    {"C ring": Spread(7.0, 6.0, 8.0)},
)
VGA = VgaResult(
    {1: Spread(250.0, 200.0, 300.0), 16: Spread(40.0, 39.0, 41.0)},
    Spread(5000.0, 4000.0, 6000.0),
    Spread(30.0, 29.0, 31.0),
    "adaptive",
)


def test_ring_has_the_keys_that_scripts_rely_on() -> None:
    values = report.ring(RING).values
    assert values["ns_per_entry"] == 8.0
    assert values["batch"] == 123.4
    assert values["ns_per_entry_each"] == 30.0
    assert values["peers"] == {"Slow": 2000.0, "Quick": 1600.0}
    assert values["floors"] == {"C ring": 7.0}
    assert values["best_peer_ratio"] == 200.0


def test_a_ring_without_peers_has_no_ratio() -> None:
    assert report.ring(RING._replace(peers={})).values["best_peer_ratio"] is None


def test_exit_has_both_placements() -> None:
    values = report.exit_({"split": EXIT, "same": EXIT}).values
    same = values["same"]
    assert isinstance(same, dict)
    for figures in (values, same):
        assert figures["floor_pipe_us"] == 10.0
        assert (figures["block_us"], figures["adaptive_us"], figures["poll_us"]) == (12.0, 2.0, 1.5)
        assert figures["block_ratio"] == 1.2
        assert figures["p99_us"] == {"block": 20.0, "adaptive": 9.0, "poll": 4.0}


def test_on_one_cpu_the_split_figures_are_null() -> None:
    values = report.exit_({"same": EXIT}).values
    assert values["block_us"] is None
    assert values["floor_pipe_us"] is None
    assert values["same"] is not None


def test_vga_has_the_first_ring_at_the_top_and_all_of_them_below() -> None:
    values = report.vga(VGA).values
    assert (values["ring_pages"], values["coalesced_ns_per_write"]) == (1, 250.0)
    assert (values["exit_ns_per_write"], values["direct_ns_per_write"]) == (5000.0, 30.0)
    assert values["wait"] == "adaptive"
    assert values["rings"] == [
        {"ring_pages": 1, "coalesced_ns_per_write": 250.0},
        {"ring_pages": 16, "coalesced_ns_per_write": 40.0},
    ]


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([report.ring(RING), report.vga(VGA)], {"cpus": 2}, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["machine", "ring", "vga"]


def test_tables_have_units_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    sections = [report.ring(RING), report.exit_({"split": EXIT}), report.vga(VGA)]
    report.show(sections, {"cpus": 2}, as_json=False)
    shown = capsys.readouterr().out
    for expected in ("cpus 2", "median, ns", "median, us", "7.00 to 9.00", "1.20 times the floor"):
        assert expected in shown
