"""Channels of the kernel: pipes, sockets and message queues."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any, ClassVar

import posix_ipc

from coalesced.tools.bench import caretaker
from coalesced.tools.bench.channels.common import context, repeat
from coalesced.tools.bench.peers import ENTRY, Send, Unavailable


class Pipe:
    """multiprocessing.Pipe: send_bytes, recv_bytes."""

    name: ClassVar[str] = "multiprocessing.Pipe"
    batches: ClassVar[str] = "no call for several: packed in a message"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self._reader, self.passed = context().Pipe(duplex=False)

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        message = ENTRY * batch
        return lambda: passed.send_bytes(message)

    def receive(self, entries: int) -> None:
        repeat(self._reader.recv_bytes, entries // self.batch)

    def close(self) -> None:
        self._reader.close()
        self.passed.close()


class BarePipe(Pipe):
    """os.pipe: a write and a read per call."""

    name: ClassVar[str] = "os.pipe"
    batches: ClassVar[str] = "one write"

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        fd, message = passed.fileno(), ENTRY * batch
        return lambda: os.write(fd, message)

    def receive(self, entries: int) -> None:
        left, fd, most = entries * len(ENTRY), self._reader.fileno(), self.batch * len(ENTRY)
        while left:
            left -= len(os.read(fd, most))


class SocketPair:
    """socket.socketpair, a stream: sendall, recv."""

    name: ClassVar[str] = "socket.socketpair"
    batches: ClassVar[str] = "one send"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self._reader, self.passed = socket.socketpair()

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        message = ENTRY * batch
        return lambda: passed.sendall(message)

    def receive(self, entries: int) -> None:
        left, receive, most = entries * len(ENTRY), self._reader.recv, self.batch * len(ENTRY)
        while left:
            left -= len(receive(min(left, most)))

    def close(self) -> None:
        self._reader.close()
        self.passed.close()


class MessageQueue:
    """posix_ipc.MessageQueue: send, receive."""

    name: ClassVar[str] = "posix_ipc.MessageQueue"
    batches: ClassVar[str] = "no call for several: packed in a message"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.passed = f"/coalesced-bench-{os.getpid()}-{secrets.token_hex(4)}"
        caretaker.remove_later("queue", self.passed)
        try:
            self._queue = posix_ipc.MessageQueue(
                self.passed, posix_ipc.O_CREX, max_message_size=len(ENTRY) * batch
            )
        except (OSError, ValueError, posix_ipc.Error) as error:
            raise Unavailable(f"no message queue: {error}") from error

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        queue, message = posix_ipc.MessageQueue(passed), ENTRY * batch
        return lambda: queue.send(message)

    def receive(self, entries: int) -> None:
        repeat(self._queue.receive, entries // self.batch)

    def close(self) -> None:
        self._queue.unlink()
        self._queue.close()
