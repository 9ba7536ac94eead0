"""Frames to QEMU and back, over every back end that both have."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from helpers.network_bench import Bench, free_ports
from helpers.network_qemu import Relay
from helpers.qtest_peer import has_qemu

pytestmark = pytest.mark.skipif(not has_qemu(), reason="no qemu-system-x86_64 7.2")

AT_ONCE = 16  # frames; QEMU's sockets have room for them


def check_both_ways(bench: Bench) -> None:
    """One card receives what the other sends; QEMU is between them."""
    rng = random.Random(7)
    one, two = bench.card("a"), bench.card("b")
    # QEMU drops frames until its stream is connected; the first frame from it shows that it is.
    bench.until(lambda: bench.network._netdevs["b"]._peer)  # type: ignore[attr-defined]
    two.send(b"hello")
    bench.until(lambda: one.received)
    one.received.clear()
    for sender, receiver in ((one, two), (two, one)):
        sizes = [60] * AT_ONCE + [1470] * AT_ONCE + [14, 61, 1514, 9000, 60000, 60]
        frames = [rng.randbytes(size) for size in sizes]
        for start in range(0, len(frames), AT_ONCE):
            stop = min(start + AT_ONCE, len(frames))
            sender.send(*frames[start:stop])
            bench.until(lambda: len(receiver.received) >= stop)  # noqa: B023 - called at once
        # A sender that moves to another processor may be overtaken by its own datagrams.
        assert sorted(receiver.received) == sorted(frames)
        receiver.received.clear()
    for name in ("a", "b"):
        assert bench.count(name, "dropped") == 0


def inet(name: str, port: int) -> str:
    return f"{name}.type=inet,{name}.host=127.0.0.1,{name}.port={port}"


def unix(name: str, path: Path) -> str:
    return f"{name}.type=unix,{name}.path={path}"


def test_datagrams_and_a_stream_that_qemu_serves(tmp_path: Path) -> None:
    ours, theirs = free_ports(2)
    (port,) = free_ports(1, socket.SOCK_STREAM)
    with (
        Bench() as bench,
        Relay(
            tmp_path,
            f"dgram,{inet('local', theirs)},{inet('remote', ours)}",
            f"stream,server=on,{inet('addr', port)}",
        ),
    ):
        bench.add(
            f"dgram,id=a,local=127.0.0.1:{ours},remote=127.0.0.1:{theirs}",
            f"stream,id=b,server=off,{inet('addr', port)}",
        )
        check_both_ways(bench)


def test_the_socket_kinds_and_a_stream_that_qemu_connects_to(tmp_path: Path) -> None:
    ours, theirs = free_ports(2)
    (port,) = free_ports(1, socket.SOCK_STREAM)
    with Bench() as bench:
        bench.add(
            f"socket,id=a,udp=127.0.0.1:{theirs},localaddr=127.0.0.1:{ours}",
            f"socket,id=b,listen=127.0.0.1:{port}",
        )
        with Relay(
            tmp_path,
            f"socket,udp=127.0.0.1:{ours},localaddr=127.0.0.1:{theirs}",
            f"socket,connect=127.0.0.1:{port}",
        ):
            check_both_ways(bench)


def test_unix_sockets_of_both_kinds(tmp_path: Path) -> None:
    ours, theirs, stream = (tmp_path / name for name in ("ours", "theirs", "stream"))
    with Bench() as bench:
        bench.add(
            f"dgram,id=a,{unix('local', ours)},{unix('remote', theirs)}",
            f"stream,id=b,server=on,{unix('addr', stream)}",
        )
        with Relay(
            tmp_path,
            f"dgram,{unix('local', theirs)},{unix('remote', ours)}",
            f"stream,server=off,{unix('addr', stream)}",
        ):
            check_both_ways(bench)
