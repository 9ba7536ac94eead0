"""`coalesced demo vga`: the contract of its JSON, exact counts, and pictures."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from coalesced.devices.vga.palette import expand_6bit
from coalesced.hv.abi import OP_OUT, OP_STORE
from coalesced.hv.ring import usable
from coalesced.tools.traces.trace import Trace, read
from helpers.tiers import every, some_heavy
from helpers.vmm_cli import json_of, run
from helpers.vmm_model import exits_of

WINDOW = (0xA0000, 0xBFFFF)
RUN_KEYS = {
    "coalescing", "accel", "writes", "coalesced", "exits", "exits_by", "stale_drains", "signals",
    "seconds", "ns_per_write", "cpu_seconds", "context_switches", "rss_bytes", "state",
}  # fmt: skip
KEYS = {"guest", "accel", "runs", "savings", "identical", "hottest", "png"}
REASONS = {"load", "pio", "no_zone", "straddle", "ring_full", "hlt"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def uncoalesced(folder: Path) -> tuple[dict[str, Any], Trace]:
    """A demo without coalescing, and every access of its guest."""
    options = ("--no-coalesce", "--wait", "block", "--trace", "plain.trace")
    result = json_of("demo", "vga", *options, cwd=folder)
    return result, read(folder / "plain.trace")


# Each side leaves its CPU to others while it waits: a demo of mostly exits takes half the CPU time.
RECORDED = ("--ring-pages", "1", "--wait", "block")


@cache
def demo(folder: Path, *options: str) -> dict[str, Any]:
    trace = ["--trace", "queued.trace"] if options == RECORDED else []
    return json_of("demo", "vga", *options, *trace, cwd=folder)


def test_the_json_has_the_keys_that_scripts_rely_on(folder: Path) -> None:
    result = demo(folder, *RECORDED)
    assert result.keys() >= KEYS
    assert [(r["accel"], r["coalescing"]) for r in result["runs"]] == [
        ("process", True),
        ("process", False),
        ("direct", False),
    ]
    for entry in result["runs"]:
        assert entry.keys() >= RUN_KEYS
        assert entry["exits_by"].keys() == REASONS
        assert entry["exits"] == sum(entry["exits_by"].values())
        assert entry["stale_drains"] == entry["failed_writes"] == 0
        assert entry["ns_per_write"] == pytest.approx(entry["seconds"] / entry["writes"] * 1e9)
        for pair in ("cpu_seconds", "context_switches", "rss_bytes"):
            assert entry[pair].keys() == {"hv", "vmm"}
    first, plain, direct = result["runs"]
    assert result["identical"] is True
    assert first["state"] == plain["state"] == direct["state"]
    assert first["writes"] == plain["writes"] == direct["writes"]
    assert result["savings"]["exits"] == 1 - first["exits"] / plain["exits"]
    assert result["savings"]["time"] == plain["seconds"] / first["seconds"]
    assert result["hottest"][0].keys() == {"address", "kind", "exits"}
    assert (folder / result["png"]).exists()


RINGS = every(["1", "2", "16"], ["adaptive", "block"])


@some_heavy("ring_pages, wait", RINGS, lambda *ring: ring == ("1", "block"))
def test_exit_counts_are_those_of_the_rules(
    folder: Path, uncoalesced: tuple[dict[str, Any], Trace], ring_pages: str, wait: str
) -> None:
    """A plain Python model counts them from the guest's accesses."""
    ops = uncoalesced[1].ops.tolist()
    options = ["--ring-pages", ring_pages] + (["--wait", wait] if wait != "adaptive" else [])
    coalesced, plain, direct = demo(folder, *options)["runs"]
    writes = sum(op[0] in (OP_STORE, OP_OUT) for op in ops)
    for entry, room in ((coalesced, usable(int(ring_pages))), (plain, None)):
        queued, exits = exits_of(ops, [WINDOW], room)
        assert entry["exits_by"] == {reason: exits[reason] for reason in REASONS}
        assert (entry["coalesced"], entry["exits"]) == (queued, exits.total())
        assert entry["writes"] == writes
    assert direct["exits_by"]["hlt"] == direct["exits"] == 1
    assert direct["writes"] == writes


@pytest.mark.parametrize(
    ("pages", "wait", "full"), [(1, "adaptive", 170), (2, "block", 341), (16, "adaptive", 2730)]
)
def test_a_guest_that_only_writes_exits_at_every_write_that_finds_the_ring_full(
    tmp_path: Path, pages: int, wait: str, full: int
) -> None:
    """With a page of ring that is every 170th."""
    (tmp_path / "guest.py").write_text(
        "def main(vcpu):\n    for i in range(3000):\n        vcpu.store8(0xa0000 + i, i)\n"
    )
    options = ("--ring-pages", pages, "--wait", wait)
    first, plain, _ = json_of("run", "guest.py:main", *options, cwd=tmp_path)["runs"]
    assert first["exits_by"]["ring_full"] == 3000 // full
    assert plain["exits_by"]["no_zone"] == 3000


def test_without_coalescing_there_is_one_run_less_and_no_saving(
    uncoalesced: tuple[dict[str, Any], Trace],
) -> None:
    result = uncoalesced[0]
    assert [(r["accel"], r["coalescing"]) for r in result["runs"]] == [
        ("process", False),
        ("direct", False),
    ]
    assert result["savings"] == {"exits": None, "time": None}
    assert result["identical"]


def test_a_recorded_demo_replays_with_every_load_equal(
    folder: Path, uncoalesced: tuple[dict[str, Any], Trace]
) -> None:
    """`replay` reads what --trace writes and ends in the same state."""
    trace = uncoalesced[1]
    result = json_of("replay", "plain.trace", "--png", "again.png", cwd=folder)
    assert result["accesses"] == len(trace.ops)
    assert result["reads"] == int(trace.reads.sum())
    assert result["reads_matching"] == result["reads_checked"] > 0
    assert result["reads_checked"] + sum(result["unchecked"].values()) == result["reads"]
    assert result["mismatches"] == []
    assert pixels(folder / "again.png").tobytes() == pixels(folder / "demo-vga.png").tobytes()


def test_a_coalesced_run_is_recorded_in_the_guests_order(
    folder: Path, uncoalesced: tuple[dict[str, Any], Trace]
) -> None:
    """Batches and exits together give the program."""
    demo(folder, *RECORDED)
    assert np.array_equal(read(folder / "queued.trace").ops, uncoalesced[1].ops)


# --- pictures ---


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("accel", ["direct", pytest.param("process", marks=pytest.mark.heavy)])
def test_a_picture_of_16_colours_that_the_dac_has_comes_back_pixel_for_pixel(
    tmp_path: Path, accel: str
) -> None:
    random = np.random.default_rng(16)
    levels = expand_6bit(np.arange(64, dtype=np.uint8))
    colours = np.unique(levels[random.integers(64, size=(64, 3))], axis=0)[:16]
    picture = random.permutation(colours)[np.arange(640 * 480).reshape(480, 640) % 16]
    picture[100:300, 200:400] = colours[random.integers(16, size=(200, 200))]
    Image.fromarray(picture).save(tmp_path / "wanted.png")
    result = json_of(
        *("demo", "vga", "--accel", accel, "--image", "wanted.png", "--png", "got.png"),
        cwd=tmp_path,
    )
    assert result["image_equal"] is True
    assert result["identical"] is True
    assert np.array_equal(pixels(tmp_path / "got.png"), picture)


def test_a_photo_comes_back_as_its_quantised_form(tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    coarse = Image.fromarray(random.integers(256, size=(24, 32, 3), dtype=np.uint8))
    photo = coarse.resize((800, 600), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.jpg")
    result = json_of(
        *("demo", "vga", "--accel", "direct", "--image", "photo.jpg", "--png", "got.png"),
        cwd=tmp_path,
    )
    assert result["image_equal"] is True
    got = pixels(tmp_path / "got.png")
    assert len(np.unique(got.reshape(-1, 3), axis=0)) <= 16
    smaller = np.asarray(photo.resize((640, 480))).astype(int)
    assert np.abs(got.astype(int) - smaller).mean() < 40  # the same picture


def test_the_table_for_people_names_what_was_saved(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(
        "def main(vcpu):\n    vcpu.fill(0xa0000, 99, 1)\n    vcpu.out8(0x3ce, 1)\n"
    )
    done = run("run", "guest.py:main", "--png", "s.png", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "queued in the ring" in done.stdout
    # What it saved of so short a run is a matter of luck.
    assert re.search(r"^Coalescing saved 98\.0% of the exits; .*the guest ", done.stdout, re.M)
    assert "All runs ended in the same state." in done.stdout
    assert "Most exits: pio 0x3ce (1)" in done.stdout
    assert "The screen: s.png" in done.stdout
