"""The page of an advice and its trace for Perfetto: whole, apart, and with the report's figures."""

from __future__ import annotations

import builtins
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coalesced.hv.abi import ring_slots
from coalesced.tools.advise.advice import Advice, Options, advise
from coalesced.tools.advise.bins import WAIT_BINS, Bins
from coalesced.tools.advise.files import write_html, write_perfetto
from coalesced.tools.advise.fleet import advise_all
from coalesced.tools.advise.page import page
from coalesced.tools.advise.passes import PARTS
from coalesced.tools.advise.perfetto import Depth
from coalesced.tools.advise.recording import Recording, read
from coalesced.tools.advise.spread import here
from coalesced.tools.advise.zones import Force
from coalesced.tools.errors import BadInput
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape
from helpers.perfetto import packets

WINDOW = 0xFD000000
ENTRIES = 400
SLOTS = ring_slots(1) - 1


def recorded(path: Path, text: str) -> tuple[Recording, Advice]:
    path.write_text(text)
    recording = read(path)
    return recording, advise(recording, Options())


@pytest.fixture
def window(tmp_path: Path) -> tuple[Recording, Advice]:
    """A window that is filled once and read once."""
    tape = Tape()
    for at in range(ENTRIES):
        tape.store(WINDOW + 4 * at, at)
    tape.load(WINDOW, 0)
    return recorded(tmp_path / "t", "\n".join(tape.lines) + "\n")


class Elements(HTMLParser):
    """Open elements must be closed in order; what they would load is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_loads_nothing(window: tuple[Recording, Advice]) -> None:
    _, advice = window
    parsed = Elements()
    parsed.feed(page(advice))
    parsed.close()
    assert (parsed.open, parsed.loads) == ([], [])
    shown = " ".join(parsed.text)
    for figure in (f"{ENTRIES + 1:,}", f"{advice.exits_advised:,}", f"{WINDOW:#x}"):
        assert figure in shown


def test_names_of_the_recording_are_text_in_the_page(tmp_path: Path) -> None:
    """Not elements: a recording may come from anywhere."""
    name = "<script>x</script>"
    line = "memory_region_ops_write cpu 0 mr 0x1 addr {:#x} value 0x1 size 4 name '{}'\n"
    _, advice = recorded(
        tmp_path / "t<b>", "".join(line.format(WINDOW + 4 * n, name) for n in range(99))
    )
    text = page(advice)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "t<b>" not in text


def test_the_parts_hold_all_exits_and_accesses(window: tuple[Recording, Advice]) -> None:
    _, advice = window
    assert len(advice.exits_by_part) == PARTS
    assert sum(advice.exits_by_part) == advice.exits == ENTRIES + 1
    assert sum(advice.exits_advised_by_part) == advice.exits_advised
    for each in advice.ranges:
        assert sum(each.parts) == each.writes + each.reads
        assert each.waits_ns is None or sum(each.wait_bins) == each.writes


def test_waits_fall_into_the_powers_of_two() -> None:
    """0 and 1 ns are in bin 0, 2 in 1, 3 and 4 in 2."""
    waits = (0, 1, 2, 3, 4, 5, 1 << 39, 1 << 50)
    counted = Bins.of([(7, number, 1, wait) for number, wait in enumerate(waits)]).powers(7)
    assert len(counted) == WAIT_BINS
    assert (counted[:4], counted[-1], sum(counted)) == ([2, 1, 2, 1], 2, 8)


def test_the_depth_of_the_ring_rises_to_the_exit(window: tuple[Recording, Advice]) -> None:
    """Every 170th write finds it full and exits; so does the load."""
    recording, advice = window
    assert advice.advised == [Zone(False, WINDOW, 4 * ENTRIES)]
    depth = Depth(recording, advice.advised, Force.of(recording, [], advice.ring))
    depths = [each for start, part in recording.spool.parts() for each in depth.of(part, start)]
    expected = [n % (SLOTS + 1) for n in range(1, ENTRIES + 1)]
    assert depths[: 2 * ENTRIES : 2] == expected
    assert depths[-1] == 0


def test_perfetto_gets_every_event_and_the_depth(
    window: tuple[Recording, Advice], tmp_path: Path
) -> None:
    pytest.importorskip("perfetto", reason="perfetto is not installed")
    recording, advice = window
    write_perfetto(tmp_path / "p", [recording], advice)
    found = packets(tmp_path / "p")
    kinds = found[-1].track_event
    events = [each for each in found if each.track_event.type == kinds.TYPE_INSTANT]
    depths = [each for each in found if each.track_event.type == kinds.TYPE_COUNTER]
    names = {each.track_descriptor.name for each in found if each.HasField("track_descriptor")}
    assert names == {"vCPU thread 7", "ring, with the advice"}
    assert len(events) == recording.whole.events
    exits = [each for each in events if list(each.track_event.categories) == ["exit"]]
    assert len(exits) == advice.exits
    assert events[0].track_event.name == f"store {WINDOW:#x}/4 0x0"
    assert max(each.track_event.counter_value for each in depths) == SLOTS
    times = [time for _, part in recording.spool.parts() for time in part["time"].tolist()]
    assert [e.timestamp for e in events] == times


def test_perfetto_gets_each_of_several_recordings_from_the_same_time_on(tmp_path: Path) -> None:
    pytest.importorskip("perfetto", reason="perfetto is not installed")
    paths, counts = [tmp_path / "a", tmp_path / "b"], (300, 200)
    for path, count in zip(paths, counts, strict=True):
        tape = Tape()
        tape.idle(count)  # begins at another time
        for at in range(count):
            tape.store(WINDOW + 4 * at, at)
        path.write_text("\n".join(tape.lines) + "\n")
    advice = advise_all(paths, Options(), here)
    write_perfetto(tmp_path / "p", map(read, paths), advice)
    found = packets(tmp_path / "p")
    tracks = {
        each.track_descriptor.uuid: each.track_descriptor.name
        for each in found
        if each.HasField("track_descriptor")
    }
    names = ("ring, with the advice", "vCPU thread 7")
    assert sorted(tracks.values()) == [f"{path}: {name}" for path in paths for name in names]
    for path, count in zip(paths, counts, strict=True):
        thread = [
            each.timestamp
            for each in found
            if each.track_event.type == each.track_event.TYPE_INSTANT
            and tracks[each.track_event.track_uuid] == f"{path}: vCPU thread 7"
        ]
        assert (min(thread), len(thread)) == (0, 2 * count)


def test_without_the_library_one_line_says_how_to_get_it(
    window: tuple[Recording, Advice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("perfetto"):
            raise ImportError("No module named 'perfetto'")
        return imported(name, *args, **kwargs)

    recording, advice = window
    imported = builtins.__import__
    for name in [each for each in sys.modules if each.split(".")[0] == "perfetto"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BadInput, match=r"pip install 'coalesced-mmio\[advise\]'"):
        write_perfetto(tmp_path / "p", [recording], advice)
    assert not (tmp_path / "p").exists()


def test_a_page_that_cannot_be_written_is_one_line(
    window: tuple[Recording, Advice], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"--html .*: Is a directory"):
        write_html(tmp_path, window[1])
    with pytest.raises(BadInput, match=r"--html .*: No space left on device"):
        write_html(Path("/dev/full"), window[1])
