"""Rings in Python behind a lock that is made when this file is imported."""

import multiprocessing
import struct
from multiprocessing.shared_memory import SharedMemory

INDICES = struct.Struct("<QQ")  # tail, head
ENTRY = 24


class Locked:
    """A ring in the memory that it is given."""

    claims = ""
    lock = multiprocessing.Lock()

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.room = (len(memory) - INDICES.size) // ENTRY

    @staticmethod
    def size(entries: int) -> int:
        return INDICES.size + ENTRY * entries

    @staticmethod
    def init(memory: memoryview, entries: int) -> None:
        INDICES.pack_into(memory, 0, 0, 0)

    def _place(self, number: int) -> slice:
        start = INDICES.size + number % self.room * ENTRY
        return slice(start, start + ENTRY)

    def push(self, entry: bytes) -> bool:
        with self.lock:
            tail, head = INDICES.unpack_from(self.memory)
            if tail - head == self.room:
                return False
            self.memory[self._place(tail)] = entry
            INDICES.pack_into(self.memory, 0, tail + 1, head)
            return True

    def pop(self) -> bytes | None:
        with self.lock:
            tail, head = INDICES.unpack_from(self.memory)
            if head == tail:
                return None
            entry = bytes(self.memory[self._place(head)])
            INDICES.pack_into(self.memory, 0, tail, head + 1)
            return entry


class Shared(Locked):
    """A ring in shared memory of its own, whose name it keeps in the memory that it is given."""

    def __init__(self, memory: memoryview) -> None:
        self.shared = SharedMemory(bytes(memory[:32]).rstrip(b"\0").decode())
        assert self.shared.buf is not None
        super().__init__(self.shared.buf[: struct.unpack_from("<Q", memory, 32)[0]])

    @staticmethod
    def size(entries: int) -> int:
        return 40 + ENTRY * entries

    @staticmethod
    def init(memory: memoryview, entries: int) -> None:
        size = Locked.size(entries)
        shared = SharedMemory(create=True, size=size)
        memory[:40] = struct.pack("<32sQ", shared.name.encode(), size)
        assert shared.buf is not None
        Locked.init(shared.buf, entries)
