"""Ring and vCPU in plain Python and in one process: slow, obvious, compared with C.

Nothing here looks at hv.core. A bus operation is (kind, size, address, value) with the numbers of
`hv.abi.OP_*`; an event is what the VMM's devices get to see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coalesced.hv.abi import KVM_EXIT_IO, KVM_EXIT_MMIO, OP_IN, OP_LOAD, OP_OUT, OP_STORE

PAGE = 4096
SPACE = 1 << 64


class Entry(NamedTuple):
    """A write in the ring; `data` holds `len` bytes."""

    phys_addr: int
    len: int
    pio: int
    data: int


class RingOracle:
    """A ring of `slots` slots, one of them always unused, whose two ends never race."""

    def __init__(self, slots: int, start: int = 0) -> None:
        self.slots = slots
        self.first = start
        self.last = start
        self._hidden: deque[Entry] = deque()  # appended, not published
        self._shown: deque[Entry] = deque()  # published, not committed

    def append(self, entry: Entry) -> bool:
        """Put an entry behind the last; False when all but one slot are taken."""
        if len(self._hidden) + len(self._shown) == self.slots - 1:
            return False
        self._hidden.append(entry._replace(data=entry.data % (1 << 8 * entry.len)))
        return True

    def publish(self) -> None:
        """Show everything appended."""
        self.last = (self.last + len(self._hidden)) % self.slots
        self._shown.extend(self._hidden)
        self._hidden.clear()

    def peek(self, most: int | None = None) -> list[Entry]:
        """The oldest published entries."""
        return list(self._shown)[:most]

    def pending(self) -> int:
        """Number of entries that are published and not committed."""
        return len(self._shown)

    def commit(self, count: int) -> None:
        """Give the oldest `count` slots back."""
        for _ in range(count):
            self._shown.popleft()
        self.first = (self.first + count) % self.slots


class Zone(NamedTuple):
    """A registered zone, as KVM_REGISTER_COALESCED_MMIO got it."""

    addr: int
    size: int


class Event(NamedTuple):
    """One access as the VMM sees it: out of the ring (reason 0) or as an exit."""

    reason: int
    pio: int
    address: int
    size: int
    is_write: bool
    value: int


Operation = tuple[int, int, int, int]
Answer = Callable[[int, int, int], int]  # pio, address, size: what a device has there


def covers(zone: Zone, address: int, length: int) -> bool:
    """True when the whole access is in the zone. KVM's 64-bit sums: a zone that wraps is empty."""
    return (
        zone.addr <= address
        and address + length < SPACE
        and (zone.addr + zone.size < SPACE)
        and address + length <= zone.addr + zone.size
    )


class VcpuOracle:
    """Where each access of a guest goes, with a VMM that drains the ring before every exit."""

    def __init__(
        self,
        memory: Sequence[tuple[int, bytes]],
        mmio_zones: Sequence[Zone],
        pio_zones: Sequence[Zone],
        ring_slots: int,
        answer: Answer,
    ) -> None:
        self.memory = [(start, bytearray(content)) for start, content in memory]
        self.zones = (list(mmio_zones), list(pio_zones))
        self.ring = RingOracle(ring_slots) if ring_slots else None
        self.answer = answer
        self.events: list[Event] = []
        self.coalesced = 0
        self.exits = 0

    def run(self, program: Sequence[Operation]) -> list[int]:
        """Carry the operations out; what each one's value is afterwards."""
        return [self._operation(*operation) for operation in program]

    def drain(self) -> None:
        """Drain the ring, as the VMM does before it handles any exit."""
        if self.ring is None:
            return
        self.ring.publish()
        entries = self.ring.peek()
        self.ring.commit(len(entries))
        self.events += [Event(0, e.pio, e.phys_addr, e.len, True, e.data) for e in entries]

    def _operation(self, kind: int, size: int, address: int, value: int) -> int:
        if kind == OP_OUT:
            self._write(1, address, size, value % (1 << 8 * size))
        elif kind == OP_IN:
            return self._exit(1, address, size, False, 0)
        else:
            split = min(size, PAGE - address % PAGE)
            parts = [(address, split)]
            if split < size:
                parts.append((address + split, size - split))
            if kind == OP_STORE:
                data = (value % (1 << 8 * size)).to_bytes(size, "little")
                pieces = [(at, length, data[at - address :][:length]) for at, length in parts]
                # As KVM: each part is tried before any part exits.
                left = [piece for piece in pieces if not self._store_without_exit(*piece)]
                for at, length, piece in left:
                    self._exit(0, at, length, True, int.from_bytes(piece, "little"))
            else:
                assert kind == OP_LOAD
                got = b"".join(self._load_piece(at, length) for at, length in parts)
                return int.from_bytes(got, "little")
        return value

    def _ram(self, address: int) -> tuple[bytearray, int] | None:
        for start, content in self.memory:
            if start <= address < start + len(content):
                return content, address - start
        return None

    def _store_without_exit(self, address: int, size: int, data: bytes) -> bool:
        found = self._ram(address)
        if found is None:
            return self._queue(0, address, size, int.from_bytes(data, "little"))
        content, offset = found
        content[offset : offset + size] = data
        return True

    def _load_piece(self, address: int, size: int) -> bytes:
        found = self._ram(address)
        if found is not None:
            content, offset = found
            return bytes(content[offset : offset + size])
        return self._exit(0, address, size, False, 0).to_bytes(size, "little")

    def _write(self, pio: int, address: int, size: int, value: int) -> None:
        if not self._queue(pio, address, size, value):
            self._exit(pio, address, size, True, value)

    def _queue(self, pio: int, address: int, size: int, value: int) -> bool:
        inside = any(covers(zone, address, size) for zone in self.zones[pio])
        if self.ring is None or not inside:
            return False
        queued = self.ring.append(Entry(address, size, pio, value))
        self.coalesced += queued
        return queued

    def _exit(self, pio: int, address: int, size: int, is_write: bool, value: int) -> int:
        self.drain()
        self.exits += 1
        reason = KVM_EXIT_IO if pio else KVM_EXIT_MMIO
        self.events.append(Event(reason, pio, address, size, is_write, value))
        return value if is_write else self.answer(pio, address, size) % (1 << 8 * size)
