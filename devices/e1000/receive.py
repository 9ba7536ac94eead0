"""The receive ring: from frames to descriptors.

Source: 8254x manual, sections 3.2.2 to 3.2.6, 13.4.22 (RCTL); the order of things and what becomes
of a descriptor are QEMU 7.2's. The frame check sequence is counted in lengths and never written.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from coalesced.devices.e1000.budget import Budget
from coalesced.devices.e1000.filters import LONGEST, VLAN_AT, Filters, is_tagged
from coalesced.devices.e1000.registers import (
    CTRL,
    CTRL_VME,
    INT_RXDMT0,
    INT_RXO,
    INT_RXT0,
    RCTL,
    RCTL_BSEX,
    RCTL_BSIZE_SHIFT,
    RCTL_EN,
    RCTL_RDMTS_SHIFT,
    RCTL_SECRC,
    RDBAH,
    RDBAL,
    RDH,
    RDLEN,
    RDT,
    STATUS,
    STATUS_LU,
    RegisterFile,
)
from coalesced.devices.e1000.statistics import FCS, Statistics

if TYPE_CHECKING:
    from coalesced.devices.bus.pci import PciFunction

DESCRIPTOR: Final = struct.Struct("<QHHBBH")  # address, length, checksum, status, errors, special
DESCRIPTOR_SIZE: Final = DESCRIPTOR.size
_RESULT: Final = struct.Struct("<HHBBH")
"""Its second half: length, checksum, status, errors, special."""
_LENGTH_AT: Final = 8
_STATUS_AT: Final = 12

DD: Final = 0x01
EOP: Final = 0x02
IXSM: Final = 0x04
VP: Final = 0x08

SHORTEST: Final = 60
"""Bytes of a frame without its check sequence; what is shorter is filled up with zeros."""
_TAG_SIZE: Final = 4
_BUFFER_SIZES: Final = (2048, 1024, 512, 256)
_BUFFER_SIZES_BSEX: Final = (2048, 16384, 8192, 4096)


def buffer_size(rctl: int) -> int:
    """Bytes of each receive buffer, by RCTL.BSIZE and RCTL.BSEX."""
    sizes = _BUFFER_SIZES_BSEX if rctl & RCTL_BSEX else _BUFFER_SIZES
    return sizes[rctl >> RCTL_BSIZE_SHIFT & 3]


@dataclass
class _Arrival:
    """A frame on its way into memory."""

    frame: bytes
    total: int  # bytes that the guest sees, the check sequence included
    status: int
    special: int
    start: int  # where RDH was
    done: int = 0  # bytes so far


class Receiver:
    """Puts frames into the buffers from RDH to RDT."""

    def __init__(
        self,
        function: PciFunction,
        registers: RegisterFile,
        statistics: Statistics,
        budget: Budget,
    ) -> None:
        self._function = function
        self._budget = budget
        self._arrival: _Arrival | None = None
        self._registers = registers
        self._statistics = statistics
        self._filters = Filters(registers, statistics)

    def reset(self) -> None:
        """No frame is on its way."""
        self._arrival = None

    def state(self) -> bytes:
        """The frame that is on its way."""
        return repr(self._arrival).encode()

    @property
    def busy(self) -> bool:
        """True while a frame that takes more than one turn is being received."""
        return self._arrival is not None

    def is_listening(self) -> bool:
        """True when the link is up and reception is enabled."""
        registers = self._registers
        return bool(registers[STATUS] & STATUS_LU and registers[RCTL] & RCTL_EN)

    def is_enabled(self) -> bool:
        """True when reception is enabled and the card is bus master."""
        return self.is_listening() and self._function.is_master

    def has_buffer(self) -> bool:
        """True when a descriptor is free."""
        return self._registers[RDH] != self._registers[RDT]

    def take(self, frame: bytes) -> int:
        """Filter a frame and put it into memory; the causes that it sets, 0 until it is there."""
        self._budget.spend(frames=1, size=len(frame))
        if len(frame) < SHORTEST:
            frame = frame.ljust(SHORTEST, b"\0")
        if self._filters.is_oversized(len(frame)) or not self._filters.accept(frame):
            return 0
        status, special = 0, 0
        if self._registers[CTRL] & CTRL_VME and is_tagged(self._registers, frame):
            special = int.from_bytes(frame[VLAN_AT + 2 : VLAN_AT + _TAG_SIZE], "big")
            frame = frame[:VLAN_AT] + frame[VLAN_AT + _TAG_SIZE :]
            status = VP
        total = len(frame) + (0 if self._registers[RCTL] & RCTL_SECRC else FCS)
        if not self._has_room(total):
            self._statistics.overrun()
            return INT_RXO
        self._arrival = _Arrival(frame, total, status, special, self._registers[RDH])
        return self.go_on()

    def go_on(self) -> int:
        """Continue with the frame that is on its way; the causes as `take`."""
        arrival = self._arrival
        if arrival is None:
            return 0
        whole = self._put(arrival)
        if whole is None:
            return 0
        self._arrival = None
        if not whole:
            self._statistics.overrun()
            return INT_RXO
        size = len(arrival.frame)
        self._statistics.received((size,), arrival.total - size)
        return INT_RXT0 | (INT_RXDMT0 if self._is_low() else 0)

    def take_many(self, frames: Sequence[bytes], first: int) -> tuple[int, int]:
        """Take frames from index `first` on, as `take` would: (how many, causes).

        Only those that fill one descriptor each, up to the first that needs more than that.
        """
        registers, function = self._registers, self._function
        rctl = registers[RCTL]
        head, tail = registers[RDH], registers[RDT]
        base = registers[RDBAH] << 32 | registers[RDBAL] & ~0xF
        count = registers[RDLEN] // DESCRIPTOR_SIZE
        ring_end = base + DESCRIPTOR_SIZE * count
        ring = target = function.ram_at(base)
        if (
            ring is None
            or target is None
            or ring_end > ring.start + ring.size
            or max(head, tail) >= count
            or count < 2
            or registers[CTRL] & CTRL_VME
        ):
            return 0, 0
        fcs = 0 if rctl & RCTL_SECRC else FCS
        longest = min(buffer_size(rctl) - fcs, LONGEST)
        accept, sizes, taken = self._filters.accept, [], 0
        for frame in islice(frames, first, None):
            size = max(len(frame), SHORTEST)
            at = base - ring.start + DESCRIPTOR_SIZE * head
            address, _, checksum, flags, errors, _ = DESCRIPTOR.unpack_from(ring.view, at)
            end = address + size
            if head == tail or size > longest or not address or (address < ring_end and end > base):
                break
            if address < target.start or end > target.start + target.size:
                target = function.ram_at(address)
                if target is None or end > target.start + target.size:
                    break
            data = frame if size == len(frame) else frame.ljust(size, b"\0")
            taken += 1
            if not accept(data):
                continue
            target.write(address - target.start, data)
            # One store of half a descriptor shows the length and DD together.
            done = _RESULT.pack(size + fcs, checksum, flags | DD | EOP | IXSM, errors, 0)
            ring.write(at + _LENGTH_AT, done)
            head = head + 1 if head + 1 < count else 0
            sizes.append(size)
        self._budget.spend(frames=taken, size=sum(sizes))
        if not sizes:
            return taken, 0
        registers[RDH] = head
        self._statistics.received(sizes, fcs)
        return taken, INT_RXT0 | (INT_RXDMT0 if self._is_low() else 0)

    def _has_room(self, total: int) -> bool:
        registers = self._registers
        size = buffer_size(registers[RCTL])
        head, tail = registers[RDH], registers[RDT]
        if total <= size:
            return head != tail
        if head == tail:
            return False
        free = tail - head
        if free < 0:
            free += registers[RDLEN] // DESCRIPTOR_SIZE
        # A head beyond the ring leaves less than none: QEMU takes that for very many.
        return total <= free * size & 0xFFFFFFFF

    def _is_low(self) -> bool:
        """True when no more descriptors are free than RCTL.RDMTS names as the threshold."""
        registers = self._registers
        length, free = registers[RDLEN], registers[RDT] - registers[RDH]
        if free < 0:
            free += length // DESCRIPTOR_SIZE
        return free * DESCRIPTOR_SIZE <= length >> (registers[RCTL] >> RCTL_RDMTS_SHIFT & 3) + 1

    def _put(self, arrival: _Arrival) -> bool | None:
        """Fill descriptors: True when the frame is complete, False when the ring ends before it
        does, None when the turn does."""
        registers, total, start = self._registers, arrival.total, arrival.start
        size = buffer_size(registers[RCTL])
        base = registers[RDBAH] << 32 | registers[RDBAL] & ~0xF
        count = registers[RDLEN] // DESCRIPTOR_SIZE
        while True:
            at = base + DESCRIPTOR_SIZE * registers[RDH]
            done, part = arrival.done, min(total - arrival.done, size)
            data, last = arrival.frame[done : done + part], done + part == total
            if self._fill(at, data, part, last, arrival.status, arrival.special):
                arrival.done += part
            head = registers[RDH] + 1
            registers[RDH] = head if head < count else 0
            # QEMU takes this for an error even where the frame was just complete.
            if registers[RDH] == start or start >= count:
                return False
            if arrival.done >= total:
                return True
            if self._budget.spent:
                return None

    def _fill(
        self, at: int, data: bytes, length: int, last: bool, status: int, special: int
    ) -> bool:
        """Fill the buffer of the descriptor at `at`; False when it has none.

        The data comes first, then the descriptor, and DD last of all.
        """
        function = self._function
        self._budget.spend(descriptors=1)
        address, old_length, checksum, flags, errors, _ = DESCRIPTOR.unpack(
            function.dma_read(at, DESCRIPTOR_SIZE)
        )
        flags &= ~DD
        if address:
            if data:
                function.dma_write(address, data)
            old_length = length
            flags = flags | EOP | IXSM if last else flags & ~EOP
        descriptor = DESCRIPTOR.pack(address, old_length, checksum, flags, errors, special)
        function.dma_write(at, descriptor)
        function.dma_write(at + _STATUS_AT, bytes((flags | status | DD,)))
        return bool(address)
