"""Frames over TCP and UNIX streams: partial reads and writes, peers that come and go."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coalesced.vmm.netdev.framing import Framer
from coalesced.vmm.netdev.spec import NetdevError
from helpers.network_bench import LIMIT, Bench, free_ports


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def some_frames(seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice([60, 1470, 1514, 9000, 65536])) for _ in range(count)]


def server(bench: Bench) -> tuple[str, int]:
    """Id and port of a back end that listens."""
    (port,) = free_ports(1, socket.SOCK_STREAM)
    bench.add(f"stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={port}")
    return "n0", port


def connected(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), LIMIT)
    peer.settimeout(LIMIT)
    return peer


def receive(peer: socket.socket, count: int) -> list[bytes]:
    framer = Framer()
    got: list[bytes] = []
    while len(got) < count:
        data = peer.recv(1 << 20)
        assert data
        got += framer.feed(data)
    return got


@pytest.mark.parametrize("kind", ["stream", "socket", "unix"])
def test_two_back_ends_speak_to_each_other(bench: Bench, kind: str, tmp_path: Path) -> None:
    (port,) = free_ports(1, socket.SOCK_STREAM)
    if kind == "socket":
        a, b = f"socket,id=a,listen=:{port}", f"socket,id=b,connect=127.0.0.1:{port}"
    elif kind == "stream":
        a, b = f"stream,id=a,server=on,addr=:{port}", f"stream,id=b,addr=127.0.0.1:{port}"
    else:
        where = f"addr.type=unix,addr.path={tmp_path}/sock"
        a, b = f"stream,id=a,server=on,{where}", f"stream,id=b,server=off,{where}"
    bench.add(a, b)
    one, two = bench.card("a"), bench.card("b")
    bench.settle()
    frames, others = some_frames(1, 300), some_frames(2, 300)
    one.send(*frames)
    two.send(*others)
    assert one.unsent, "a stream has no room for all of it"
    bench.until(lambda: len(one.received) == len(two.received) == 300)
    assert one.received == others
    assert two.received == frames
    for name in ("a", "b"):
        assert bench.count(name, "sent") == 300
        assert bench.count(name, "dropped") == 0


def test_bytes_that_come_one_by_one_are_frames_in_the_end(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    frames = [b"", b"x", b"frame" * 20]
    with connected(port) as peer:
        for byte in framed(*frames):
            peer.send(bytes((byte,)))
            bench.settle()
        bench.until(lambda: len(card.received) == 2)
    assert card.received == frames[1:]
    assert bench.count(name, "dropped_by") == {"empty": 1}


def test_a_peer_that_reads_nothing_makes_the_card_wait(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    with connected(port) as peer:
        bench.settle()
        frames = some_frames(3, 500)
        card.send(*frames)
        assert card.unsent
        received: list[bytes] = []
        framer = Framer()
        while len(received) < len(frames):
            received += framer.feed(peer.recv(1 << 16))
            bench.loop.serve()
    assert received == frames
    assert bench.count(name, "sent") == 500


def test_a_card_that_sends_much_at_once_is_told_when_it_may_go_on(bench: Bench) -> None:
    """It waits for that after a batch that was not taken whole."""
    _, port = server(bench)
    card = bench.card("n0")
    frames = [bytes((n % 256,)) * 4000 for n in range(1000)]
    with connected(port) as peer:
        bench.settle()
        assert card.wire is not None
        peer.settimeout(0.01)
        card.unsent = frames[card.wire.send(frames) :]
        framer = Framer()
        got: list[bytes] = []
        while len(got) < len(frames):
            with suppress(TimeoutError):
                got += framer.feed(peer.recv(1 << 20))
            bench.settle()
            assert card.unsent == frames[len(frames) - len(card.unsent) :]
            assert card.unsent == [] or bench.loop.watching
        assert got == frames


def test_frames_wait_in_the_stream_for_a_card_without_buffers(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name, buffers=2)
    frames = some_frames(4, 20)
    with connected(port) as peer:
        peer.sendall(framed(*frames))
        bench.until(lambda: len(card.received) == 2)
        card.refill(100)
        bench.until(lambda: len(card.received) == 20)
    assert card.received == frames


def test_without_a_peer_frames_are_lost_and_the_next_peer_is_taken(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    card.send(b"nobody is there")
    for turn in range(3):
        with connected(port) as peer:
            peer.sendall(framed(b"hello %d" % turn))
            bench.until(lambda: len(card.received) == turn + 1)  # noqa: B023 - called at once
            card.send(b"hello back")
            assert receive(peer, 1) == [b"hello back"]
        bench.settle()
        card.send(b"gone again")
    assert bench.count(name, "dropped_by") == {"not connected": 4}
    assert bench.count(name, "sent") == 3


def test_a_second_peer_waits_until_the_first_one_has_gone(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    with connected(port) as second, connected(port) as third:
        third.sendall(framed(b"from the third"))
        second.sendall(framed(b"from the second"))
        bench.until(lambda: card.received)
        bench.settle()
        assert card.received == [b"from the second"]
        second.close()
        bench.until(lambda: len(card.received) == 2)
    assert card.received[1] == b"from the third"


def test_a_peer_that_goes_with_frames_on_the_way_lets_the_card_go_on(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    peer = connected(port)
    bench.settle()
    card.send(*some_frames(5, 500))
    assert card.unsent
    peer.close()
    bench.until(lambda: not card.unsent)
    sent, dropped = bench.count(name, "sent"), bench.count(name, "dropped")
    assert isinstance(sent, int)
    assert dropped == 500 - sent


def test_a_reset_is_an_end_as_well(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    peer = connected(port)
    bench.settle()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    bench.settle()
    with connected(port) as peer:
        peer.sendall(framed(b"next"))
        bench.until(lambda: card.received)


def test_an_insane_length_closes_the_connection_with_one_line(bench: Bench) -> None:
    name, port = server(bench)
    card = bench.card(name)
    with connected(port) as peer:
        peer.sendall(framed(b"good") + b"\xff\xff\xff\xff" + bytes(100))
        bench.until(lambda: bench.lines)
        with suppress(ConnectionResetError):
            assert peer.recv(100) == b""
    assert card.received == [b"good"]
    expected = "a frame of 4294967295 bytes, expected at most 69632: connection closed"
    assert bench.lines == [f"netdev n0: {expected}"]
    with connected(port) as peer:
        peer.sendall(framed(b"next"))
        bench.until(lambda: len(card.received) == 2)


def test_nobody_to_connect_to_is_said_at_once(bench: Bench, tmp_path: Path) -> None:
    (port,) = free_ports(1, socket.SOCK_STREAM)
    for spec, reason in (
        (f"stream,id=a,addr=127.0.0.1:{port}", f"cannot connect to 127.0.0.1:{port}: Connection r"),
        (f"socket,id=a,connect=127.0.0.1:{port}", "Connection refused"),
        (f"stream,id=a,addr.type=unix,addr.path={tmp_path}/none", "No such file or directory"),
    ):
        with pytest.raises(NetdevError, match=reason):
            bench.add(spec)


def test_who_is_told_to_reconnect_does(bench: Bench) -> None:
    (port,) = free_ports(1, socket.SOCK_STREAM)
    bench.add(f"stream,id=n0,addr=127.0.0.1:{port},reconnect=1")
    card = bench.card("n0")
    backend = bench.network._netdevs["n0"]
    backend._reconnect_after = 0.01  # type: ignore[attr-defined]
    for turn in range(2):
        with socket.create_server(("127.0.0.1", port)) as listener:
            peers: list[socket.socket] = []
            listener.setblocking(False)

            def accepted(
                listener: socket.socket = listener, to: list[socket.socket] = peers
            ) -> bool:
                try:
                    to.append(listener.accept()[0])
                except BlockingIOError:
                    return False
                return True

            bench.until(accepted)
            with peers[0]:
                peers[0].sendall(framed(b"turn %d" % turn))
                bench.until(lambda: len(card.received) == turn + 1)  # noqa: B023 - called at once
    assert card.received == [b"turn 0", b"turn 1"]


def test_who_is_not_told_to_reconnect_does_not(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bench.add(f"socket,id=n0,connect=127.0.0.1:{listener.getsockname()[1]}")
        card = bench.card("n0")
        peer, _ = listener.accept()
        peer.sendall(framed(b"one"))
        peer.close()
        bench.until(lambda: card.received)
        bench.settle()
        card.send(b"lost")
    assert bench.count("n0", "dropped_by") == {"not connected": 1}
    assert not bench.loop.watching
