"""The ring's peers: other channels between two Python processes, with entries of its size."""

from __future__ import annotations

import atexit
import ctypes
import importlib
import multiprocessing
import os
import secrets
import struct
import tempfile
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from types import ModuleType
from typing import Any, ClassVar

import posix_ipc

from coalesced.tools.bench import caretaker
from coalesced.tools.bench.peers import ENTRY, Channel, Send, Unavailable

SLOTS = 1024  # of the ring in shared memory with a lock
_INDICES = struct.Struct("<II")  # first, last


def _context() -> Any:
    return multiprocessing.get_context("spawn")


def _module(name: str) -> ModuleType:
    """An optional library. Raises Unavailable."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"not installed ({error}); pip install 'coalesced-mmio[bench]'") from None


def _repeat(take: Callable[[], object], times: int) -> None:
    for _ in range(times):
        take()


class Pipe:
    """multiprocessing.Pipe: send_bytes, recv_bytes."""

    name: ClassVar[str] = "multiprocessing.Pipe"

    def __init__(self) -> None:
        self._reader, self.passed = _context().Pipe(duplex=False)

    @staticmethod
    def sender(passed: Any) -> Send:
        return lambda: passed.send_bytes(ENTRY)

    def receive(self, entries: int) -> None:
        _repeat(self._reader.recv_bytes, entries)

    def close(self) -> None:
        self._reader.close()
        self.passed.close()


class BarePipe(Pipe):
    """os.pipe: one write of 24 bytes per entry, reads as long as the pipe holds."""

    name: ClassVar[str] = "os.pipe, a write each"

    @staticmethod
    def sender(passed: Any) -> Send:
        fd = passed.fileno()
        return lambda: os.write(fd, ENTRY)

    def receive(self, entries: int) -> None:
        left, fd = entries * len(ENTRY), self._reader.fileno()
        while left:
            left -= len(os.read(fd, min(left, 1 << 16)))


class Queue:
    """multiprocessing.Queue: put, get."""

    name: ClassVar[str] = "multiprocessing.Queue"

    def __init__(self) -> None:
        self.passed = _context().Queue()

    @staticmethod
    def sender(passed: Any) -> Send:
        return lambda: passed.put(ENTRY)

    def receive(self, entries: int) -> None:
        _repeat(self.passed.get, entries)

    def close(self) -> None:
        self.passed.close()


class MessageQueue:
    """posix_ipc.MessageQueue: send, receive."""

    name: ClassVar[str] = "posix_ipc.MessageQueue"

    def __init__(self) -> None:
        self.passed = f"/coalesced-bench-{os.getpid()}-{secrets.token_hex(4)}"
        caretaker.remove_later("queue", self.passed)
        try:
            self._queue = posix_ipc.MessageQueue(
                self.passed, posix_ipc.O_CREX, max_message_size=len(ENTRY)
            )
        except (OSError, posix_ipc.Error) as error:
            raise Unavailable(f"no message queue: {error}") from error

    @staticmethod
    def sender(passed: Any) -> Send:
        queue = posix_ipc.MessageQueue(passed)
        return lambda: queue.send(ENTRY)

    def receive(self, entries: int) -> None:
        _repeat(self._queue.receive, entries)

    def close(self) -> None:
        self._queue.unlink()
        self._queue.close()


class LockedMemory:
    """multiprocessing.shared_memory: a ring of entries, indices and all under one Lock."""

    name: ClassVar[str] = "multiprocessing.shared_memory and a Lock"

    def __init__(self) -> None:
        try:
            self._memory = SharedMemory(create=True, size=_INDICES.size + SLOTS * len(ENTRY))
        except OSError as error:
            raise Unavailable(f"no shared memory: {error}") from error
        self._lock = _context().Lock()
        self.passed = (self._memory.name, self._lock)

    @staticmethod
    def sender(passed: Any) -> Send:
        name, lock = passed
        memory = SharedMemory(name)
        buffer = memory.buf
        assert buffer is not None

        def send(keep: SharedMemory = memory) -> None:
            while True:
                with lock:
                    first, last = _INDICES.unpack_from(buffer)
                    if (last + 1) % SLOTS != first:
                        at = _INDICES.size + last * len(ENTRY)
                        buffer[at : at + len(ENTRY)] = ENTRY
                        _INDICES.pack_into(buffer, 0, first, (last + 1) % SLOTS)
                        return
                os.sched_yield()

        return send

    def receive(self, entries: int) -> None:
        buffer, lock = self._memory.buf, self._lock
        assert buffer is not None
        while entries:
            with lock:
                first, last = _INDICES.unpack_from(buffer)
                if first != last:
                    at = _INDICES.size + first * len(ENTRY)
                    bytes(buffer[at : at + len(ENTRY)])
                    _INDICES.pack_into(buffer, 0, (first + 1) % SLOTS, last)
                    entries -= 1
                    continue
            os.sched_yield()

    def close(self) -> None:
        self._memory.close()
        self._memory.unlink()


class FasterFifo(Queue):
    """faster_fifo.Queue: put, get."""

    name: ClassVar[str] = "faster_fifo.Queue"

    def __init__(self) -> None:
        library = _module("faster_fifo")
        _module("faster_fifo_reduction")  # lets a queue pass to a process that was spawned
        self.passed = library.Queue(max_size_bytes=1 << 20)


class Zmq:
    """pyzmq: PUSH to PULL over ipc://."""

    name: ClassVar[str] = "pyzmq PUSH/PULL"

    def __init__(self) -> None:
        zmq = _module("zmq")
        # An abstract address, which no file system has.
        self.passed = f"ipc://@coalesced-bench-{secrets.token_hex(8)}"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(self.passed)

    @staticmethod
    def sender(passed: Any) -> Send:
        zmq = _module("zmq")
        socket = zmq.Context.instance().socket(zmq.PUSH)
        atexit.register(socket.close, linger=0)
        socket.connect(passed)
        return lambda: socket.send(ENTRY)

    def receive(self, entries: int) -> None:
        _repeat(self._socket.recv, entries)

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


class _Payload(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * len(ENTRY)),)


class Iceoryx:
    """iceoryx2: publish and subscribe, nothing dropped."""

    name: ClassVar[str] = "iceoryx2 publish/subscribe"

    def __init__(self) -> None:
        library = _module("iceoryx2")
        name = f"coalesced-bench-{secrets.token_hex(8)}"
        self.passed = (os.path.join(tempfile.gettempdir(), name), f"{name}-")
        for kind, what in self._left():
            caretaker.remove_later(kind, what)
        try:
            os.mkdir(self.passed[0], 0o700)
            self._node, service = _iceoryx_service(library, *self.passed)
            self._subscriber = service.subscriber_builder().create()
        except Exception as error:  # its own classes, one per step
            self._remove()
            raise Unavailable(f"iceoryx2: {error or type(error).__name__}") from error

    @staticmethod
    def sender(passed: Any) -> Send:
        library = _module("iceoryx2")
        node, service = _iceoryx_service(library, *passed)
        builder = service.publisher_builder()
        publisher = builder.backpressure_strategy(
            library.BackpressureStrategy.RetryUntilDelivered
        ).create()
        entry = _Payload()

        def send(keep: Any = node) -> None:
            publisher.send_copy(entry)

        return send

    def receive(self, entries: int) -> None:
        take = self._subscriber.receive
        while entries:
            sample = take()
            if sample is None:
                os.sched_yield()
                continue
            sample.delete()
            entries -= 1

    def close(self) -> None:
        self._subscriber.delete()
        del self._node
        self._remove()

    def _remove(self) -> None:
        """It leaves its management segment behind, for the next one."""
        for kind, what in self._left():
            caretaker.remove(kind, what)

    def _left(self) -> tuple[tuple[str, str], ...]:
        return ("folder", self.passed[0]), ("shared", self.passed[1])


def _iceoryx_service(library: Any, folder: str, prefix: str) -> tuple[Any, Any]:
    """(node, service), with everything of theirs in a folder and under a prefix of our own."""
    library.set_log_level(library.LogLevel.Fatal)
    config = library.config.default()
    config.global_cfg.root_path = library.Path.new(folder)
    config.global_cfg.prefix = library.FileName.new(prefix)
    node = (
        library.NodeBuilder.new()
        .config(config)
        .signal_handling_mode(library.SignalHandlingMode.Disabled)
        .create(library.ServiceType.Ipc)
    )
    service = (
        node.service_builder(library.ServiceName.new("entries"))
        .publish_subscribe(_Payload)
        .enable_safe_overflow(False)
        .subscriber_max_buffer_size(SLOTS)
        .open_or_create()
    )
    return node, service


FLOOR: type[Channel] = BarePipe
PEERS: tuple[type[Channel], ...] = (
    Pipe,
    Queue,
    MessageQueue,
    LockedMemory,
    FasterFifo,
    Iceoryx,
    Zmq,
)
