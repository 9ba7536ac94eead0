"""Channels in shared memory: the ring as a library, a ring under a lock, iceoryx2."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
import tempfile
from functools import cache
from multiprocessing.shared_memory import SharedMemory
from typing import Any, ClassVar

import numpy as np

from coalesced.hv import abi
from coalesced.hv.shared_ring import Ring
from coalesced.tools.bench import caretaker
from coalesced.tools.bench.channels.common import context, module
from coalesced.tools.bench.peers import ENTRY, Send, Unavailable

SLOTS = 1024  # of the ring in shared memory with a lock; a multiple of the batch
_INDICES = struct.Struct("<II")  # first, last


class SharedRing:
    """The ring as a library (`coalesced.Ring`): append and take, append_entries and take."""

    name: ClassVar[str] = "coalesced.Ring"
    batches: ClassVar[str] = "append_entries"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.passed = Ring(SLOTS)
        self._consumer = self.passed.consumer()

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        producer = passed.producer()
        if batch == 1:
            return lambda: producer.append(0xA0000, 1, 0)
        entries = np.zeros(batch, abi.KVM_COALESCED_MMIO)
        entries["len"] = 1
        return lambda: producer.append_entries(entries)

    def receive(self, entries: int) -> None:
        take = self._consumer.take
        while entries:
            entries -= len(take(None, min(entries, self.batch)))

    def close(self) -> None:
        self._consumer.close()
        self.passed.close()


class LockedMemory:
    """multiprocessing.shared_memory: a ring of entries, indices and all under one Lock."""

    name: ClassVar[str] = "multiprocessing.shared_memory and a Lock"
    batches: ClassVar[str] = "one holding of the lock"

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        try:
            self._memory = SharedMemory(create=True, size=_INDICES.size + SLOTS * len(ENTRY))
        except OSError as error:
            raise Unavailable(f"no shared memory: {error}") from error
        self._lock = context().Lock()
        self.passed = (self._memory.name, self._lock)

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        name, lock = passed
        message = ENTRY * batch
        memory = SharedMemory(name)
        buffer = memory.buf
        assert buffer is not None

        def send(keep: SharedMemory = memory) -> None:
            while True:
                with lock:
                    first, last = _INDICES.unpack_from(buffer)
                    if (first - last - 1) % SLOTS >= batch:
                        at = _INDICES.size + last * len(ENTRY)
                        buffer[at : at + len(message)] = message
                        _INDICES.pack_into(buffer, 0, first, (last + batch) % SLOTS)
                        return
                os.sched_yield()

        return send

    def receive(self, entries: int) -> None:
        buffer, lock, batch = self._memory.buf, self._lock, self.batch
        assert buffer is not None
        while entries:
            with lock:
                first, last = _INDICES.unpack_from(buffer)
                if (last - first) % SLOTS >= batch:
                    at = _INDICES.size + first * len(ENTRY)
                    bytes(buffer[at : at + len(ENTRY) * batch])
                    _INDICES.pack_into(buffer, 0, (first + batch) % SLOTS, last)
                    entries -= batch
                    continue
            os.sched_yield()

    def close(self) -> None:
        self._memory.close()
        self._memory.unlink()


@cache
def _payload(batch: int) -> type[ctypes.Structure]:
    """The type of a sample of `batch` entries."""
    fields = [("bytes", ctypes.c_uint8 * (len(ENTRY) * batch))]
    return type("Payload", (ctypes.Structure,), {"_fields_": fields})


class Iceoryx:
    """iceoryx2: publish and subscribe, nothing dropped."""

    name: ClassVar[str] = "iceoryx2 publish/subscribe"
    batches: ClassVar[str] = "no call for several: packed in a sample"

    def __init__(self, batch: int = 1) -> None:
        library = module("iceoryx2")
        self.batch = batch
        name = f"coalesced-bench-{secrets.token_hex(8)}"
        self.passed = (os.path.join(tempfile.gettempdir(), name), f"{name}-")
        for kind, what in self._left():
            caretaker.remove_later(kind, what)
        try:
            os.mkdir(self.passed[0], 0o700)
            self._node, service = _iceoryx_service(library, self.passed, batch)
            self._subscriber = service.subscriber_builder().create()
        except Exception as error:  # its own classes, one per step
            self._remove()
            raise Unavailable(f"iceoryx2: {error or type(error).__name__}") from error

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        library = module("iceoryx2")
        node, service = _iceoryx_service(library, passed, batch)
        builder = service.publisher_builder()
        publisher = builder.backpressure_strategy(
            library.BackpressureStrategy.RetryUntilDelivered
        ).create()
        entry = _payload(batch)()

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
            entries -= self.batch

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


def _iceoryx_service(library: Any, names: tuple[str, str], batch: int) -> tuple[Any, Any]:
    """(node, service), with everything of theirs in a folder and under a prefix of our own."""
    folder, prefix = names
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
        .publish_subscribe(_payload(batch))
        .enable_safe_overflow(False)
        .subscriber_max_buffer_size(SLOTS)
        .open_or_create()
    )
    return node, service
