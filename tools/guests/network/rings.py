"""The descriptor rings of the 82540EM in guest RAM, many descriptors at a time.

Legacy descriptors, one per frame (8254x manual, 3.2.3 and 3.3.3): what a driver without offloads
uses. Slot n of a ring always has the same buffer of SLOT bytes. One slot stays unused, so that
head == tail means an empty ring.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network.blocks import SLOT, Frames

SLOTS: Final = 256  # of either ring; Linux's default
RING_SIZE: Final = SLOTS * 16  # bytes

TX_DESCRIPTOR: Final = np.dtype(
    [
        ("address", "<u8"),
        ("length", "<u2"),
        ("cso", "u1"),
        ("command", "u1"),
        ("status", "u1"),
        ("css", "u1"),
        ("special", "<u2"),
    ]
)
RX_DESCRIPTOR: Final = np.dtype(
    [
        ("address", "<u8"),
        ("length", "<u2"),
        ("checksum", "<u2"),
        ("status", "u1"),
        ("errors", "u1"),
        ("special", "<u2"),
    ]
)
_LENGTH_AT: Final = 8  # of either kind
_STATUS_AT: Final = 12

TXD_EOP: Final = 0x01
TXD_IFCS: Final = 0x02
TXD_RS: Final = 0x08
DD: Final = 0x01  # of either status: the card has finished the descriptor
RXD_EOP: Final = 0x02

REFILL_EVERY: Final = 16  # descriptors given back at once, as in Linux

_DD_ONLY: Final = bytes(status & DD for status in range(256))
_LAST: Final = bytes(status & RXD_EOP for status in range(256))


class Transmitter:
    """The transmit ring: filled, shown to the card, sent, and cleaned in turn."""

    def __init__(self, vcpu: Vcpu, ring: int, buffers: int) -> None:
        """`ring` and `buffers` are addresses in RAM."""
        self._vcpu = vcpu
        self.ring = ring
        self._buffers = buffers
        self._descriptors = np.zeros(SLOTS, TX_DESCRIPTOR)
        self._descriptors["address"] = buffers + SLOT * np.arange(SLOTS)
        self._descriptors["command"] = TXD_EOP | TXD_IFCS | TXD_RS
        vcpu.write_memory(ring, self._descriptors.tobytes())
        self._lengths = [0] * SLOTS
        self._clean = self._tail = self._next = 0  # oldest in use, first not shown, first free
        self.in_use = 0

    @property
    def room(self) -> int:
        """Frames that may be filled in now."""
        return SLOTS - 1 - self.in_use

    def fill(self, frames: Frames) -> int:
        """Put frames into free slots; how many. Raises ValueError when there are not enough."""
        block, lengths = frames
        count = len(lengths)
        if count > self.room:
            raise ValueError(f"{count} frames for {self.room} free descriptors")
        done = 0
        while done < count:
            slot = self._next
            part = min(count - done, SLOTS - slot)
            rows = block[done : done + part]
            self._vcpu.write_memory(self._buffers + slot * SLOT, rows.tobytes())
            descriptors = self._descriptors[slot : slot + part]
            descriptors["length"] = lengths[done : done + part]
            self._lengths[slot : slot + part] = descriptors["length"].tolist()
            self._vcpu.write_memory(self.ring + slot * 16, descriptors.tobytes())
            self._next = (slot + part) % SLOTS
            done += part
        self.in_use += count
        return count

    def advance(self, count: int) -> int:
        """Show the card `count` more filled descriptors; the tail for its register."""
        self._tail = (self._tail + count) % SLOTS
        return self._tail

    def clean(self) -> tuple[int, int]:
        """Take back the sent descriptors: (frames, bytes)."""
        frames = octets = 0
        while self.in_use:
            slot = self._clean
            looked_at = min(self.in_use, SLOTS - slot)
            done = _done(_statuses(self._vcpu, self.ring, slot, looked_at))
            octets += sum(self._lengths[slot : slot + done])
            self._clean = (slot + done) % SLOTS
            self.in_use -= done
            frames += done
            if done < looked_at:
                break
        return frames, octets


class Receiver:
    """The receive ring: every slot but one is the card's, until it holds a frame."""

    def __init__(self, vcpu: Vcpu, ring: int, buffers: int) -> None:
        """`ring` and `buffers` are addresses in RAM."""
        self._vcpu = vcpu
        self.ring = ring
        self._buffers = buffers
        self._empty = np.zeros(SLOTS, RX_DESCRIPTOR)
        self._empty["address"] = buffers + SLOT * np.arange(SLOTS)
        vcpu.write_memory(ring, self._empty.tobytes())
        self._next = 0  # the slot of the next frame
        self.octets = 0  # received so far
        self._refilled = 0  # the first slot that was not emptied again

    def waiting(self, limit: int = SLOTS) -> int:
        """Number of slots that hold a frame by now, up to `limit`."""
        ring, slot = self.ring, self._next
        found = _done(_statuses(self._vcpu, ring, slot, min(limit, SLOTS - slot)))
        if found < limit and slot + found == SLOTS:
            found += _done(_statuses(self._vcpu, ring, 0, min(limit - found, slot)))
        return found

    def take(self, limit: int) -> list[Frames]:
        """Frames that have come, `limit` at most, in two parts where the ring wraps.

        The card gets their slots back by `refill`, for each part.
        """
        parts = []
        while limit > 0:
            slot = self._next
            looked_at = min(limit, SLOTS - slot)
            raw = self._vcpu.read_memory(self.ring + slot * 16, looked_at * 16)
            count = _done(raw[_STATUS_AT::16])
            if count:
                parts.append(self._frames(slot, raw, count))
            limit -= count
            if count < looked_at:
                break
        return parts

    def _frames(self, slot: int, raw: bytearray, count: int) -> Frames:
        data = self._vcpu.read_memory(self._buffers + slot * SLOT, count * SLOT)
        block = np.frombuffer(data, np.uint8).reshape(count, SLOT)
        self._next = (slot + count) % SLOTS
        lengths = memoryview(raw).cast("H")[_LENGTH_AT // 2 : count * 8 : 8].tolist()
        statuses = raw[_STATUS_AT : count * 16 : 16]
        if 0 in statuses.translate(_LAST) or max(lengths) > SLOT:
            # A frame over several descriptors is longer than any that was asked for.
            last = statuses.translate(_LAST)
            lengths = [n if e and n <= SLOT else 0 for n, e in zip(lengths, last, strict=True)]
        self.octets += sum(lengths)
        return Frames(block, np.array(lengths, np.int64))

    def refill(self, count: int) -> Iterator[int]:
        """Give back the slots of `count` frames of a `take`; the tails for the register, in turn.

        The card has what lies before the tail; the slot there is empty, too.
        """
        while count > 0:
            step = min(count, REFILL_EVERY)
            slot = self._refilled
            empty = self._empty[slot : slot + step]
            self._vcpu.write_memory(self.ring + slot * 16, empty.tobytes())
            self._refilled = (slot + step) % SLOTS
            count -= step
            yield (slot + step - 1) % SLOTS


def _statuses(vcpu: Vcpu, ring: int, slot: int, count: int) -> bytearray:
    """The statuses of descriptors from `slot` on; none wraps."""
    return vcpu.read_memory(ring + slot * 16, count * 16)[_STATUS_AT::16]


def _done(statuses: bytearray) -> int:
    """Number of descriptors that the card has finished, up to the first unfinished one."""
    found = statuses.translate(_DD_ONLY).find(0)
    return len(statuses) if found < 0 else found
