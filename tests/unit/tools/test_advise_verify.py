"""A replay checks a recording: counts, loads and state."""

from __future__ import annotations

from pathlib import Path

from coalesced.tools.advise import verify
from coalesced.tools.advise.recording import read
from coalesced.tools.traces import trace

LINE = "memory_region_ops_write cpu {} mr 0x1 addr 0x3c{} value 0x{} size 1 name '{}'\n"


def test_the_accesses_of_a_recording_are_those_that_a_replay_reads(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("".join(LINE.format(n % 2, n, n, "vga" * (n % 3)) for n in range(10)))
    found, expected = verify.trace_of(read(path)), trace.read(path)
    assert found.ops.tolist() == expected.ops.tolist()
    assert found.lines.tolist() == expected.lines.tolist()
    assert [found.names[n] for n in found.region] == [expected.names[n] for n in expected.region]


def test_of_a_recording_that_is_too_long_the_beginning_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("".join(LINE.format(n % 2, n, n, "vga") for n in range(9)))
    recording = read(path, part=2)
    whole = verify.trace_of(recording).ops.tolist()
    assert len(whole) == 9
    for most in range(1, 12):
        assert verify.trace_of(recording, most).ops.tolist() == whole[:most]
