"""Channels of libraries that carry messages: multiprocessing, faster-fifo, pyzmq."""

from __future__ import annotations

import atexit
import secrets
from typing import Any, ClassVar

from coalesced.tools.bench.channels.common import context, module, repeat
from coalesced.tools.bench.peers import ENTRY, Send


class Queue:
    """multiprocessing.Queue: put, get."""

    name: ClassVar[str] = "multiprocessing.Queue"
    batches: ClassVar[str] = "no call for several: packed in an object"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.passed = context().Queue()

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        message = ENTRY * batch
        return lambda: passed.put(message)

    def receive(self, entries: int) -> None:
        repeat(self.passed.get, entries // self.batch)

    def close(self) -> None:
        self.passed.close()


class FasterFifo(Queue):
    """faster_fifo.Queue: put and get, put_many and get_many."""

    name: ClassVar[str] = "faster_fifo.Queue"
    batches: ClassVar[str] = "put_many"

    def __init__(self, batch: int = 1) -> None:
        library = module("faster_fifo")
        module("faster_fifo_reduction")  # lets a queue pass to a process that was spawned
        self.batch = batch
        self.passed = library.Queue(max_size_bytes=1 << 20)

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        if batch == 1:
            return lambda: passed.put(ENTRY)
        messages = [ENTRY] * batch
        return lambda: passed.put_many(messages)

    def receive(self, entries: int) -> None:
        if self.batch == 1:
            repeat(self.passed.get, entries)
            return
        while entries:
            entries -= len(self.passed.get_many(max_messages_to_get=min(entries, self.batch)))


class Zmq:
    """pyzmq: PUSH to PULL over ipc://."""

    name: ClassVar[str] = "pyzmq PUSH/PULL"
    batches: ClassVar[str] = "no call for several: packed in a message"

    def __init__(self, batch: int = 1) -> None:
        zmq = module("zmq")
        self.batch = batch
        # An abstract address, which no file system has.
        self.passed = f"ipc://@coalesced-bench-{secrets.token_hex(8)}"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(self.passed)

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        zmq = module("zmq")
        socket = zmq.Context.instance().socket(zmq.PUSH)
        atexit.register(socket.close, linger=0)
        socket.connect(passed)
        message = ENTRY * batch
        return lambda: socket.send(message)

    def receive(self, entries: int) -> None:
        repeat(self._socket.recv, entries // self.batch)

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()
