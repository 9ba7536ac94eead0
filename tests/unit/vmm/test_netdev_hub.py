"""Hubs between cards and back ends, and what is written down of their frames."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalesced.vmm.netdev.pcap import Pcap
from helpers.network_bench import Bench, free_ports
from helpers.network_cards import FakeCard

QUEUE = 1024


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def cards(bench: Bench, count: int, buffers: int = 1 << 30) -> list[FakeCard]:
    bench.add(*(f"hubport,id=p{n},hubid=0" for n in range(count)))
    return [bench.card(f"p{n}", buffers) for n in range(count)]


def test_every_other_port_hears_a_frame(bench: Bench) -> None:
    one, two, three = cards(bench, 3)
    one.send(b"first", b"second")
    three.send(b"third")
    assert one.received == [b"third"]
    assert two.received == [b"first", b"second", b"third"]
    assert three.received == [b"first", b"second"]
    report = bench.network.report()
    assert report["p1"].received == 3
    assert report["p0"].sent_bytes == len(b"firstsecond")
    assert report["p0"].kind == "hubport"


def test_hubs_are_apart(bench: Bench) -> None:
    bench.add("hubport,id=a,hubid=1", "hubport,id=b,hubid=2", "hubport,id=c,hubid=2")
    a, b, c = (bench.card(name) for name in "abc")
    b.send(b"frame")
    assert a.received == []
    assert c.received == [b"frame"]
    a.send(b"into the void")
    assert bench.count("a", "dropped_by") == {"no other port": 1}


def test_frames_wait_at_the_port_of_a_card_without_buffers(bench: Bench) -> None:
    one, two = cards(bench, 2, buffers=0)
    frames = [b"%d" % n for n in range(QUEUE + 100)]
    one.send(*frames)
    assert len(one.unsent) == 100, "the queue is full, and the sender waits"
    two.refill(5)
    assert two.received == frames[:5]
    two.refill(1 << 20)
    bench.until(lambda: not one.unsent)
    assert two.received == frames
    assert bench.count("p1", "dropped") == 0


def test_a_port_that_takes_nothing_does_not_hold_the_others_up(bench: Bench) -> None:
    one, two, three = cards(bench, 3)
    two.buffers = 0
    frames = [b"%d" % n for n in range(3 * QUEUE)]
    one.send(*frames)
    assert three.received == frames
    assert one.unsent == []
    assert bench.count("p1", "dropped_by") == {"no room": 2 * QUEUE}
    two.refill(1 << 20)
    assert two.received == frames[:QUEUE]


def test_a_card_behind_a_hub_is_asked_again_after_a_flush(bench: Bench) -> None:
    one, two = cards(bench, 2)
    two.buffers = 0
    one.send(b"frame")

    def queued_write_arrives() -> None:
        two.buffers += 1

    bench.on_flush = queued_write_arrives
    bench.until(lambda: two.received)
    assert two.received == [b"frame"]


def test_a_back_end_behind_a_hub(bench: Bench) -> None:
    """Frames that do not fit into the hub wait in the socket."""
    (port,) = free_ports(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        bench.add(
            f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{peer.getsockname()[1]}",
            "hubport,id=p,hubid=0,netdev=n0",
        )
        (card,) = cards(bench, 1, buffers=0)
        card.send(b"out")
        assert peer.recv(100) == b"out"
        frames = [b"%d" % n for n in range(QUEUE + 50)]
        for start in range(0, len(frames), 100):
            for frame in frames[start : start + 100]:
                peer.sendto(frame, ("127.0.0.1", port))
            bench.settle()
        assert bench.count("n0", "received") == QUEUE
        card.refill(1 << 20)
        bench.until(lambda: len(card.received) == len(frames))
        assert sorted(card.received) == sorted(frames)
        assert bench.count("p0", "dropped") == 0


def test_a_full_back_end_behind_a_hub_makes_the_card_wait(bench: Bench, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(theirs))
        bench.add(
            f"dgram,id=n0,local.type=unix,local.path={tmp_path}/ours,"
            f"remote.type=unix,remote.path={theirs}",
            "hubport,id=p,hubid=0,netdev=n0",
            "hubport,id=q,hubid=0",
        )
        card = bench.card("q")
        frames = [b"%d" % n for n in range(2 * QUEUE)]
        card.send(*frames)
        assert card.unsent
        got: list[bytes] = []
        while len(got) < len(frames):
            got.append(peer.recv(100))
            bench.settle()
            bench.loop.run_timers()
        assert got == frames


def test_frames_that_never_left_are_counted_at_the_end() -> None:
    with Bench() as bench:
        one, two = cards(bench, 2)
        two.buffers = 0
        one.send(b"frame")
        network = bench.network
    assert network.report()["p1"].dropped_by == {"not received before the end": 1}


# --- pcap ---


def frames_of(path: Path) -> list[tuple[float, bytes]]:
    """(seconds since 1970, frame) of a file with nanoseconds."""
    data = path.read_bytes()
    assert struct.unpack_from("<IHHiIII", data) == (0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    found, at = [], 24
    while at < len(data):
        seconds, nanoseconds, size, whole = struct.unpack_from("<IIII", data, at)
        assert size == whole
        assert nanoseconds < 1_000_000_000
        found.append((seconds + nanoseconds / 1e9, data[at + 16 : at + 16 + size]))
        at += 16 + size
    return found


def test_both_directions_are_written_down_as_they_pass(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcap"
    (port,) = free_ports(1)
    before = time.time()
    with Bench(path) as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        bench.add(f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{peer.getsockname()[1]}")
        card = bench.card("n0")
        card.send(b"out", b"out again")
        (unfinished,) = tmp_path.iterdir()
        written = [frame for _, frame in frames_of(unfinished)]
        assert written == [b"out", b"out again"], "at once"
        peer.sendto(b"in", ("127.0.0.1", port))
        bench.until(lambda: card.received)
    times, frames = zip(*frames_of(path), strict=True)
    assert frames == (b"out", b"out again", b"in")
    assert before - 1e-3 <= min(times) <= max(times) <= time.time() + 1e-3


def test_a_frame_on_a_hub_is_written_down_once(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcap"
    (port,) = free_ports(1)
    with Bench(path) as bench:
        bench.add(
            f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:9",
            "hubport,id=p,hubid=0,netdev=n0",
        )
        one, _ = cards(bench, 2)
        one.send(b"frame")
    assert [frame for _, frame in frames_of(path)] == [b"frame"]


def test_a_full_disk_ends_the_record_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcap"
    path.symlink_to("/dev/full")
    with Bench(path) as bench:
        one, two = cards(bench, 2)
        one.send(b"frame")
        assert two.received == [b"frame"]
        assert bench.lines == [
            f"--pcap {path}: No space left on device; no more frames are written"
        ]


def test_a_run_that_never_began_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcap"
    path.write_bytes(b"old")
    pcap = Pcap(path, lambda _line: None)
    pcap.close(complete=False)
    assert path.read_bytes() == b"old"
    Pcap(path, lambda _line: None).close()
    assert frames_of(path) == []
    interrupted = Pcap(path, lambda _line: None)
    interrupted.record([b"frame"])
    interrupted.close(complete=False)
    interrupted.close()
    assert [frame for _, frame in frames_of(path)] == [b"frame"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_leaves_whole_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frames.pcap"
    lines: list[str] = []
    pcap = Pcap(path, lines.append)
    pcap.record([b"first"])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return write(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    pcap.record([b"second"])
    pcap.record([b"third"])
    monkeypatch.undo()
    pcap.close()
    assert [frame for _, frame in frames_of(path)] == [b"first"]
    assert lines == [f"--pcap {path}: No space left on device; no more frames are written"]
