"""Datagrams as frames, and what every back end does with a card that takes none.

UDP may be overtaken by itself where its sender moves to another processor: no order is expected.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coalesced.vmm.netdev.backend import FRAME_MAX, NetdevReport
from coalesced.vmm.netdev.spec import NetdevError
from helpers.network_bench import Bench, free_ports
from helpers.network_cards import BriefCard, FakeCard


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """A socket that plays the other side."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        yield peer


def plugged(bench: Bench, peer: socket.socket, buffers: int = 1 << 30) -> tuple[FakeCard, int]:
    """A card on `dgram`, its port; the peer is at the other end."""
    (port,) = free_ports(1)
    remote = peer.getsockname()[1]
    bench.add(f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{remote}")
    return bench.card("n0", buffers), port


def random_frames(seed: int, count: int, longest: int = 3000) -> list[bytes]:
    rng = random.Random(seed)
    sizes = [rng.choice([1, 60, 60, 1470, 1470, 1514, longest]) for _ in range(count)]
    return [rng.randbytes(size) for size in sizes]


# --- the wire ---


def test_a_frame_is_a_datagram_both_ways(bench: Bench, peer: socket.socket) -> None:
    card, port = plugged(bench, peer)
    frames = random_frames(1, 200)
    for frame in frames:
        card.send(frame)
        assert peer.recvfrom(FRAME_MAX) == (frame, ("127.0.0.1", port))
        peer.sendto(frame, ("127.0.0.1", port))
    bench.until(lambda: len(card.received) == len(frames))
    assert sorted(card.received) == sorted(frames)
    size = sum(map(len, frames))
    assert bench.network.report()["n0"] == NetdevReport("dgram", 200, size, 200, size, 0, {})


@pytest.mark.parametrize("segments", [True, False])
def test_frames_that_are_sent_together_stay_apart(
    bench: Bench, peer: socket.socket, segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the kernel cuts them or not: runs of one length, of others, and single ones."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    card, _ = plugged(bench, peer)
    backend = bench.network._netdevs["n0"]
    if not segments:
        monkeypatch.setattr(backend, "_segments", False)
    frames = [
        *[bytes((n,)) * 1470 for n in range(150)],
        *random_frames(2, 100),
        *[bytes((n,)) * 60 for n in range(200)],
        *[bytes((n,)) * 40000 for n in range(3)],
        *[bytes((n,)) for n in range(100)],
    ]
    card.send(*frames)
    assert sorted(peer.recv(FRAME_MAX) for _ in frames) == sorted(frames)


def test_a_device_below_that_cannot_cut_gets_them_one_by_one(
    bench: Bench, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, _ = plugged(bench, peer)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no checksums here")

    monkeypatch.setattr(bench.network._netdevs["n0"], "_send_segments", refuse)
    frames = [bytes((n,)) * 60 for n in range(10)]
    card.send(*frames)
    assert sorted(peer.recv(100) for _ in frames) == sorted(frames)
    assert bench.count("n0", "dropped") == 0


def test_two_back_ends_speak_to_each_other(bench: Bench) -> None:
    """Where the kernel passes on what was sent together as one."""
    ours, theirs = free_ports(2)
    bench.add(
        f"dgram,id=a,local=127.0.0.1:{ours},remote=127.0.0.1:{theirs}",
        f"socket,id=b,localaddr=127.0.0.1:{theirs},udp=127.0.0.1:{ours}",
    )
    a, b = bench.card("a"), bench.card("b")
    for seed in range(20):
        frames = [*random_frames(seed, 40), *[bytes((n,)) * 1470 for n in range(64)]]
        a.send(*frames)
        bench.until(lambda: len(b.received) >= len(frames))  # noqa: B023 - called at once
        assert sorted(b.received) == sorted(frames)
        b.received.clear()
    assert bench.count("b", "kind") == "socket"


def test_a_port_is_for_one_alone(bench: Bench, peer: socket.socket) -> None:
    _, port = plugged(bench, peer)
    with pytest.raises(NetdevError, match=f"cannot bind to 127.0.0.1:{port}: Address already in"):
        bench.add(f"dgram,id=n1,local=127.0.0.1:{port},remote=127.0.0.1:9")


def test_anybody_may_send_and_empty_datagrams_are_no_frames(
    bench: Bench, peer: socket.socket
) -> None:
    card, port = plugged(bench, peer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for frame in (b"", b"one", b"", b"two"):
            stranger.sendto(frame, ("127.0.0.1", port))
        bench.until(lambda: len(card.received) == 2)
    assert sorted(card.received) == [b"one", b"two"]
    assert bench.count("n0", "dropped_by") == {"empty": 2}


def test_a_peer_that_is_not_there_loses_frames_and_gets_those_that_come_later(
    bench: Bench,
) -> None:
    ours, theirs = free_ports(2)
    bench.add(f"dgram,id=n0,local=127.0.0.1:{ours},remote=127.0.0.1:{theirs}")
    card = bench.card("n0")
    for _ in range(5):
        card.send(b"nobody hears this")
        bench.settle()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(("127.0.0.1", theirs))
        late.settimeout(20)
        card.send(b"this is heard")
        assert late.recv(100) == b"this is heard"


def test_a_frame_that_fits_no_datagram_is_lost_and_counted(
    bench: Bench, peer: socket.socket
) -> None:
    card, _ = plugged(bench, peer)
    card.send(bytes(60), bytes(65508), bytes(65507))
    assert sorted(len(peer.recv(FRAME_MAX)) for _ in range(2)) == [60, 65507]
    assert bench.count("n0", "dropped_by") == {"too long": 1}
    assert bench.count("n0", "sent") == 2


def test_multicast_is_heard_by_all_in_the_group(bench: Bench) -> None:
    (port,) = free_ports(1)
    for name in ("a", "b"):
        bench.add(f"socket,id={name},mcast=239.255.7.9:{port},localaddr=127.0.0.1")
    a, b = bench.card("a"), bench.card("b")
    a.send(b"to all of you")
    bench.until(lambda: a.received and b.received)
    assert a.received == b.received == [b"to all of you"]


@pytest.mark.parametrize("hub", [False, True])
def test_a_card_that_asks_by_a_queued_write_gets_the_frame(
    bench: Bench, peer: socket.socket, hub: bool
) -> None:
    """The write is handled by the flush that precedes the question whether the card can receive."""
    (port,) = free_ports(1)
    remote = peer.getsockname()[1]
    bench.add(f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{remote}")
    if hub:
        bench.add("hubport,id=h0,hubid=0,netdev=n0", "hubport,id=h1,hubid=0")
    card = bench.plug("h1" if hub else "n0", BriefCard())
    frames = [b"one", b"two", b"three"]
    for frame in frames:
        peer.sendto(frame, ("127.0.0.1", port))
    before = bench.flushes
    bench.until(lambda: bench.flushes > before)
    assert not card.received
    bench.on_flush = card.ask
    bench.until(lambda: len(card.received) == 3)
    assert sorted(card.received) == sorted(frames)


# --- UNIX sockets ---


def test_a_full_queue_of_a_unix_socket_makes_the_card_wait(bench: Bench, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    bench.add(
        f"dgram,id=n0,local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"
    )
    card = bench.card("n0")
    card.send(b"nobody hears this")
    assert bench.count("n0", "dropped_by") == {"no peer": 1}
    for connects, frames in ((False, random_frames(3, 500)), (True, [bytes(40_000)] * 500)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(str(theirs))
            if connects:  # and then nobody else may send to it
                peer.connect(str(ours))
            card.send(*frames)
            assert 0 < len(card.unsent) < len(frames)
            got: list[bytes] = []
            peer.setblocking(False)

            while len(got) < len(frames):
                with suppress(BlockingIOError):
                    got.append(peer.recv(FRAME_MAX))
                bench.loop.serve()
            assert got == frames
            assert card.unsent == []
            if connects:
                peer.send(b"and back")
                bench.until(lambda: card.received)
        theirs.unlink()
    assert card.received == [b"and back"]
    assert bench.count("n0", "dropped") == 1


def test_a_peer_that_dies_with_a_full_queue_lets_the_card_go_on(
    bench: Bench, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    bench.add(
        f"dgram,id=n0,local.type=unix,local.path={tmp_path}/ours,"
        f"remote.type=unix,remote.path={theirs}"
    )
    card = bench.card("n0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(theirs))
        card.send(*[b"frame"] * 500)
        assert card.unsent
    bench.until(lambda: not card.unsent)
    sent, dropped = bench.count("n0", "sent"), bench.count("n0", "dropped_by")
    assert isinstance(sent, int)
    assert dropped == {"no peer": 500 - sent}


# --- a card that takes nothing ---


def test_frames_wait_for_a_card_without_buffers(bench: Bench, peer: socket.socket) -> None:
    card, port = plugged(bench, peer, buffers=3)
    frames = [bytes((n,)) * 100 for n in range(200)]
    for frame in frames:
        peer.sendto(frame, ("127.0.0.1", port))
    bench.until(lambda: len(card.received) == 3)
    bench.settle()
    assert len(card.received) == 3
    card.refill(50)
    assert len(card.received) == 53, "those that waited come before `receive_ready` returns"
    card.refill(1000)
    bench.until(lambda: len(card.received) == len(frames))
    assert sorted(card.received) == frames
    assert bench.count("n0", "dropped") == 0


def test_while_the_card_takes_nothing_nothing_is_read(bench: Bench, peer: socket.socket) -> None:
    """Frames that the kernel then has no room for are counted, by its own counter."""
    card, port = plugged(bench, peer, buffers=0)
    sent = 0
    while not (lost := bench.count("n0", "dropped")):
        for _ in range(1000):
            peer.sendto(bytes(1470), ("127.0.0.1", port))
        sent += 1000
        bench.settle()
        assert sent < 100_000
    assert bench.count("n0", "dropped_by") == {"no room in the socket": lost}
    card.refill(1 << 30)
    assert isinstance(lost, int)
    bench.until(lambda: len(card.received) == sent - lost)
    assert bench.count("n0", "received") == sent - lost


def test_a_card_that_says_nothing_is_asked_again_after_a_flush(
    bench: Bench, peer: socket.socket
) -> None:
    """The write that gives it buffers may lie in the ring, and nobody is notified."""
    card, port = plugged(bench, peer, buffers=1)
    for frame in (b"one", b"two", b"three"):
        peer.sendto(frame, ("127.0.0.1", port))
    bench.until(lambda: card.received)
    bench.settle()
    assert len(card.received) == 1

    def queued_write_arrives() -> None:
        card.buffers += 1

    bench.on_flush = queued_write_arrives
    bench.until(lambda: len(card.received) == 3)
    assert sorted(card.received) == [b"one", b"three", b"two"]


def test_the_queue_is_flushed_before_the_card_is_asked_and_not_when_it_asks_itself(
    bench: Bench, peer: socket.socket
) -> None:
    card, port = plugged(bench, peer, buffers=0)
    told: list[str] = []
    bench.on_flush = lambda: told.append("flush")
    asked = card.can_receive

    def can_receive() -> bool:
        told.append("asked")
        return asked()

    card.can_receive = can_receive  # type: ignore[method-assign]
    peer.sendto(b"frame", ("127.0.0.1", port))
    bench.until(lambda: told)
    assert told[:2] == ["flush", "asked"]
    told.clear()
    card.refill(1)
    assert told[0] == "asked"
    assert card.received == [b"frame"]


def test_a_card_that_gets_buffers_while_it_receives_gets_the_rest(
    bench: Bench, peer: socket.socket
) -> None:
    """`receive_ready` from inside `receive` must neither lose nor repeat."""
    card, port = plugged(bench, peer, buffers=2)
    taken = card.receive

    def receive(frames: list[bytes]) -> int:
        count = taken(frames[:2])
        card.buffers = 2
        assert card.wire is not None
        card.wire.receive_ready()
        return count

    card.receive = receive  # type: ignore[method-assign,assignment]
    frames = [bytes((n,)) for n in range(100)]
    for frame in frames:
        peer.sendto(frame, ("127.0.0.1", port))
    bench.until(lambda: len(card.received) == len(frames))
    assert sorted(card.received) == frames


def test_frames_that_were_read_and_never_taken_are_counted_at_the_end(
    peer: socket.socket,
) -> None:
    with Bench() as bench:
        card, port = plugged(bench, peer, buffers=4)
        for n in range(10):
            peer.sendto(bytes((n,)), ("127.0.0.1", port))
        bench.until(lambda: len(card.received) == 4)
        network = bench.network
    assert network.report()["n0"].dropped_by == {"not received before the end": 6}
