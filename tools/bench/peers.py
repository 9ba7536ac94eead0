"""What else Python has between two processes, with entries as long as the ring's."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import posix_ipc

from hv import core

ENTRY = bytes(24)

Receive = Callable[[int], None]  # takes that many entries


class Peer:
    """A process that sends entries one per call, and what receives them here."""

    def __init__(self, channel: str, passed: Any, receive: Receive, cpu: int) -> None:
        """`passed`: what the other process sends through."""
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._receive = receive
        self._process = context.Process(
            target=_produce, args=(channel, passed, theirs, cpu), daemon=True
        )
        # Ctrl-C is this side's affair, from the other one's first instruction on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        try:
            self._control.recv()
        except BaseException:
            self.close()
            raise

    def measure(self, entries: int) -> float:
        """Nanoseconds per entry, sent and received."""
        self._control.send(entries)
        started: int = self._control.recv()
        self._receive(entries)
        return (time.monotonic_ns() - started) / entries

    def close(self) -> None:
        """End the other process."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._control.close()


@contextmanager
def pipe(cpu: int) -> Iterator[Peer]:
    """multiprocessing.Pipe: send_bytes, recv_bytes."""
    reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)

    def receive(entries: int) -> None:
        take = reader.recv_bytes
        for _ in range(entries):
            take()

    with _closing(Peer("pipe", writer, receive, cpu)) as peer:
        yield peer
    reader.close()
    writer.close()


@contextmanager
def bare_pipe(cpu: int) -> Iterator[Peer]:
    """os.pipe: one write of 24 bytes per entry, reads as long as the pipe holds."""
    reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)

    def receive(entries: int) -> None:
        left, fd = entries * len(ENTRY), reader.fileno()
        while left:
            left -= len(os.read(fd, min(left, 1 << 16)))

    with _closing(Peer("bare_pipe", writer, receive, cpu)) as peer:
        yield peer
    reader.close()
    writer.close()


@contextmanager
def queue(cpu: int) -> Iterator[Peer]:
    """multiprocessing.Queue: put, get."""
    channel = multiprocessing.get_context("spawn").Queue()

    def receive(entries: int) -> None:
        take = channel.get
        for _ in range(entries):
            take()

    with _closing(Peer("queue", channel, receive, cpu)) as peer:
        yield peer
    channel.close()


@contextmanager
def message_queue(cpu: int) -> Iterator[Peer]:
    """posix_ipc.MessageQueue: send, receive. Raises OSError or posix_ipc.Error without one."""
    name = f"/coalesced-bench-{os.getpid()}-{secrets.token_hex(4)}"
    channel = posix_ipc.MessageQueue(name, posix_ipc.O_CREX, max_message_size=len(ENTRY))
    try:

        def receive(entries: int) -> None:
            take = channel.receive
            for _ in range(entries):
                take()

        with _closing(Peer("message_queue", name, receive, cpu)) as peer:
            yield peer
    finally:
        channel.unlink()
        channel.close()


@contextmanager
def _closing(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.close()


def _sender(channel: str, passed: Any) -> Callable[[], object]:
    """What sends one entry."""
    if channel == "pipe":
        return lambda: passed.send_bytes(ENTRY)
    if channel == "bare_pipe":
        fd = passed.fileno()
        return lambda: os.write(fd, ENTRY)
    if channel == "queue":
        return lambda: passed.put(ENTRY)
    opened = posix_ipc.MessageQueue(passed)
    return lambda: opened.send(ENTRY)


def _produce(channel: str, passed: Any, control: Connection[Any, Any], cpu: int) -> None:
    """Main of the other process: send as many entries as are asked for, until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    core.die_with_parent()
    os.sched_setaffinity(0, {cpu})
    send = _sender(channel, passed)
    control.send("ready")
    while True:
        entries: int = control.recv()
        control.send(time.monotonic_ns())
        for _ in range(entries):
            send()
