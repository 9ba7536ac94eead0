"""The parts of `coalesced live`: tiles, the ring by region, slow browsers, keys, the start."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coalesced.tools.live
from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.tools.errors import BadInput
from coalesced.tools.live import beside, subjects
from coalesced.tools.live import hub as hub_module
from coalesced.tools.live.hub import Hub
from coalesced.tools.live.keep import Keep
from coalesced.tools.live.keys import codes_of
from coalesced.tools.live.knobs import checked
from coalesced.tools.live.lessons import LESSONS
from coalesced.tools.live.link import RING_BYTES, Link, pair
from coalesced.tools.live.timeline import RING, perfetto
from coalesced.tools.live.view import Picture, Rates, Ring, rings_of
from coalesced.tools.runs.options import RunOptions
from coalesced.vmm.machine import Machine
from helpers.perfetto import packets, perfetto_events
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder, load

PAGE = Path(coalesced.tools.live.__file__ or "").parent / "page"
ANSWER: dict[str, Any] = {
    "name": "test", "end": "", "mode": "running", "rate": None, "steps": 0, "writes": 0,
    "coalesced": 0, "exits": 0, "exits_by": {}, "failed": 0, "pid": None, "slots": 170,
    "pending": 0, "first": 0, "own": [], "regions": [], "told": [], "keyboard": False, "took": 0.0,
    "kept": False, "pages": 1, "wait": "block", "time": 0.0, "spent": 0.0,
}  # fmt: skip


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 300_000


def test_only_tiles_that_changed_are_named() -> None:
    picture = Picture()
    black = np.zeros((70, 100, 3), np.uint8)
    assert picture.show(black) == set(range(3 * 4))
    assert picture.show(black.copy()) == set()
    dotted = black.copy()
    dotted[0, 0] = dotted[69, 99] = dotted[40, 33] = 255
    assert picture.show(dotted) == {0, 5, 11}
    assert len(picture.tile(0)) == 32 * 32 * 3
    assert len(picture.tile(11)) == 6 * 4 * 3  # at the edge
    assert picture.tile(11)[-3:] == b"\xff\xff\xff"


def entries(*addresses: int) -> Any:
    return np.array([(at, 1, 0, 7) for at in addresses], KVM_COALESCED_MMIO)


def test_entries_are_coloured_by_region_and_found_by_slot() -> None:
    ring = Ring()
    ring.show(entries(0x10, 0x20, 0x99), 168, 170)
    regions = [{"zones": [[0x20, 8, False]]}, {"zones": [[0x10, 1, False], [0x10, 90, True]]}]
    assert ring.letters(regions) == "baz"
    assert [ring.entry_in(slot) for slot in (167, 168, 169, 0, 1)] == [None, 0, 1, 2, None]


def test_the_entries_of_own_rings_lie_behind_the_vm_s() -> None:
    """Each ring begins where its own entries do, whatever went through the others."""
    link, theirs, memory = pair()
    theirs.close()
    batch = np.concatenate([entries(0x10), entries(0x20, 0x21)])
    link.memory[: batch.nbytes] = batch.tobytes()
    card = {"name": "card", "pending": 2, "first": 169}
    regions = [{"zones": [[0x10, 1, False]]}, {"zones": [[0x20, 1, False]]}]
    answer = {**ANSWER, "pending": 1, "first": 340, "own": [card], "regions": regions}
    rings = rings_of(link, answer, [Ring()])
    assert [ring.entries["phys_addr"].tolist() for ring in rings] == [[0x10], [0x20, 0x21]]
    assert [answer[key] for key in ("first", "last", "letters")] == [0, 1, "a"]
    assert [card[key] for key in ("first", "last", "letters")] == [169, 1, "bz"]
    assert [rings[1].entry_in(slot) for slot in (169, 0, 1)] == [0, 1, None]
    assert rings_of(link, {**ANSWER, "own": []}, rings) == rings[:1]
    os.close(memory)
    link.close()


def test_an_entry_ages_until_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    ring = Ring()
    ring.show(entries(1, 2), 0, 170)
    now = 101.0
    ring.show(entries(1, 2, 3), 0, 170)
    now = 103.0
    assert [ring.age(number) for number in range(3)] == [3.0, 3.0, 2.0]
    ring.show(entries(3), 2, 170)
    assert ring.age(0) == 2.0


@pytest.mark.parametrize(
    ("exits", "seconds"), [(0, hub_module.FRAME), (99, hub_module.FRAME), (101, 0.1)]
)
def test_a_guest_that_exits_often_is_looked_at_ten_times_a_second(
    exits: int, seconds: float
) -> None:
    before = {**ANSWER, "time": 5.0, "exits": 7}
    assert hub_module.pause(before, {**before, "time": 5.1, "exits": 7 + exits}) == seconds
    assert hub_module.pause({}, before) == hub_module.FRAME


def test_a_minute_has_sixty_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rates = Rates()
    for second in range(100):
        now = float(second)
        rates.note({**ANSWER, "coalesced": 5 * second, "exits_by": {"load": 2 * second}})
    assert len(rates.seconds) == 60
    assert rates.seconds[-1] == {"load": 2.0, "queued": 5.0}


@pytest.mark.parametrize(
    ("name", "down", "codes"),
    [
        ("KeyA", True, [0x1E]),
        ("KeyA", False, [0x9E]),
        ("Digit0", True, [0x0B]),
        ("Enter", True, [0x1C]),
        ("Slash", True, [0x35]),
        ("ShiftRight", True, [0x36]),
        ("Space", True, [0x39]),
        ("F10", True, [0x44]),
        ("ArrowUp", False, [0xE0, 0xC8]),
    ],
)
def test_keys_have_the_scan_codes_of_set_1(name: str, down: bool, codes: list[int]) -> None:
    assert codes_of(name, down) == codes


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no key named 'Any'"):
        codes_of("Any", True)


@pytest.mark.parametrize(
    "message",
    [
        {"do": "step", "count": 0},
        {"do": "step", "count": "1"},
        {"do": "speed", "rate": 7},
        {"do": "staleness", "ms": 2},
        {"do": "again", "pages": 4097, "wait": "block"},
        {"do": "again", "pages": 1, "wait": "never"},
        {"do": "sample"},
        {},
    ],
)
def test_a_message_that_the_page_does_not_send_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|no such message|not a valid"):
        checked(message)


def test_a_message_keeps_only_what_its_knob_has() -> None:
    message = {"do": "staleness", "ms": 10, "more": 1}
    assert checked(message) == {"do": "staleness", "ms": 10}


def test_a_minute_is_kept_with_what_was_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10**9
    monkeypatch.setattr("time.monotonic_ns", lambda: now)
    machine = Machine(FakeAccelerator((Queued(0, 1, 1), Queued(1, 1, 2), load(8))))
    machine.memory.map(Recorder("r", 0x100, coalesced=((0, 0x100),)).region, 0)
    keep = Keep(machine)
    keep.turn(True)
    machine.run("guest")
    assert [kept.left for kept in keep.kept()] == [2, 1, 0]
    assert keep.trace().startswith(b"memory_region_ops_write cpu 0 mr ")
    (tmp_path / "p").write_bytes(perfetto(keep.stamped()))
    assert perfetto_events(tmp_path / "p") == [
        ("r write 0x0/1 0x1", ["access"], now),
        ("r write 0x1/1 0x2", ["access"], now),
        ("r read 0x8/1 0x0", ["exit"], now),
    ]
    counters = [each for each in packets(tmp_path / "p") if each.track_event.track_uuid == RING]
    assert [each.track_event.counter_value for each in counters] == [2, 1, 0]
    now += 61 * 10**9
    keep.access("read", machine.memory, 0, 1, 0)
    assert len(keep.kept()) == 1


def test_each_lesson_has_a_section_and_a_picture() -> None:
    folder = Path(__file__).parents[3] / "docs" / "lesson"
    text = (folder / "index.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [f"## {n}. {one.title.capitalize()}" for n, one in enumerate(LESSONS, 1)]
    for number in range(1, len(LESSONS) + 1):
        assert f"coalesced live lesson:{number}" in text
        assert f"({number}.png)" in text
        assert (folder / f"{number}.png").exists()


@pytest.mark.parametrize("number", ["0", "8", "one", ""])
def test_there_are_seven_lessons(number: str) -> None:
    with pytest.raises(BadInput, match=f"^lesson:{number}: expected lesson:1 to lesson:7$"):
        subjects.find(f"lesson:{number}", [], RunOptions())


@pytest.mark.parametrize("name", beside.NEEDED)
def test_without_the_extra_one_line_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == name else 1)
    with pytest.raises(BadInput, match=rf"^live: {name} is not installed: pip install"):
        beside.check_installed()


class Vmm:
    """Answers a hub as a VMM does, with a screen that changes in one place after the other."""

    def __init__(self) -> None:
        self.link, theirs, memory = pair()
        self.hub_link = Link(theirs, memory)
        os.close(memory)
        self.hub_link.socket.setblocking(False)
        self.link.socket.setblocking(False)
        self.frames = 0

    def close(self) -> None:
        """Close both ends."""
        self.link.close()
        self.hub_link.close()

    def answer(self) -> None:
        """Answer what waits."""
        while (message := self.link.receive()) is not None:
            answer: dict[str, Any] = {**ANSWER, "names": [], "pending": 3}
            answer["coalesced"] = answer["first"] = answer["writes"] = self.frames
            if message["screen"]:
                self.link.memory[RING_BYTES + self.frames % 3000] = self.frames & 0xFF | 1
                self.frames += 1
                answer["screen"] = [64, 64]
            if message["hottest"]:
                answer["hottest"] = []
            self.link.send(answer)


def test_a_slow_browser_gets_fewer_frames_and_holds_nothing_up() -> None:
    async def both() -> tuple[list[bytes], list[bytes], int]:
        vmm = Vmm()
        hub = Hub(vmm.hub_link)
        fast: list[bytes] = []
        slow: list[bytes] = []
        enough, caught_up, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def take(message: bytes) -> None:
            fast.append(message)
            if len(fast) == 10:
                enough.set()

        async def get_stuck(message: bytes) -> None:
            slow.append(message)
            if len(slow) == 1:
                await enough.wait()
            else:
                caught_up.set()

        async def say_nothing() -> str:
            await never.wait()
            return ""

        asyncio.get_running_loop().add_reader(vmm.link.socket.fileno(), vmm.answer)
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                hub.run(),
                hub.serve(take, True, say_nothing),
                hub.serve(get_stuck, False, say_nothing),
            )
        ]
        await caught_up.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        vmm.close()
        return fast, slow, vmm.frames

    fast, slow, frames = asyncio.run(both())
    assert len(slow) < len(fast) <= frames + 1
    # What the slow one missed comes in one message: its last state of every tile.
    (length,) = struct.unpack_from("<I", slow[1])
    assert json.loads(slow[1][4 : 4 + length])["screen"]["tiles"] == [0]


@pytest.mark.heavy
def test_memory_stays_flat_over_an_hour_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """108,000 frames, each of which a clock of its own takes for a thirtieth of a second."""
    monkeypatch.setattr(hub_module, "FRAME", 0.0)
    minute, hour = 60 * 30, 3600 * 30
    blocks: list[int] = []

    async def watch() -> None:
        vmm = Vmm()
        monkeypatch.setattr("time.monotonic", lambda: vmm.frames / 30)
        hub = Hub(vmm.hub_link)
        enough = asyncio.Event()

        async def take(_message: bytes) -> None:
            if vmm.frames >= (2 * minute, hour)[len(blocks)]:
                gc.collect()
                blocks.append(sys.getallocatedblocks())
            if len(blocks) == 2:
                enough.set()
                await asyncio.Event().wait()

        async def say_nothing() -> str:
            await asyncio.Event().wait()
            return ""

        asyncio.get_running_loop().add_reader(vmm.link.socket.fileno(), vmm.answer)
        tasks = [
            asyncio.ensure_future(work) for work in (hub.run(), hub.serve(take, True, say_nothing))
        ]
        await enough.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        vmm.close()

    asyncio.run(watch())
    assert blocks[1] - blocks[0] < 10_000  # one a frame would be 104,400
