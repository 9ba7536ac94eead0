"""The segments of a pair as a third party sees them: plain bytes, read without hv.core."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import abi, core
from coalesced.hv.abi import KVM_COALESCED_MMIO, KVM_COALESCED_MMIO_RING_HEADER, PAGE_SIZE
from coalesced.tools.stress import guest

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_INDICES = struct.Struct("<II")


class Write(NamedTuple):
    """A write of the guest in the run page."""

    pio: bool
    address: int
    length: int
    data: int


@dataclass
class Segments:
    """Descriptors and mappings of ring, run segment and notes; they outlive both sides.

    `channels`, for a third party: exit pipe, resume pipe of each vCPU, and the ends of the control
    socket that send to the guest process and to the VMM. `others`: run segments of further vCPUs;
    `own`: those of own rings, each a page of words and the ring; `events`: their descriptors that
    become readable.
    """

    ring_fd: int
    run_fd: int
    notes_fd: int
    channels: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    own: tuple[int, ...] = ()
    events: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.sizes = [os.fstat(fd).st_size for fd in self.fds]
        self.ring = mmap.mmap(self.ring_fd, self.sizes[0])
        self.run = mmap.mmap(self.run_fd, self.sizes[1])
        self.notes = mmap.mmap(self.notes_fd, self.sizes[2])
        others = [mmap.mmap(fd, self.sizes[1]) for fd in self.others]
        self.runs = [self.run, *others]  # of each vCPU
        self.own_rings = [mmap.mmap(fd, os.fstat(fd).st_size) for fd in self.own]
        self.memories = (self.ring, self.run, self.notes, *others, *self.own_rings)
        self.slots = abi.ring_slots(self.sizes[0] // PAGE_SIZE)

    @property
    def fds(self) -> tuple[int, ...]:
        return self.ring_fd, self.run_fd, self.notes_fd, *self.others, *self.own

    def whole(self) -> bool:
        """Whether every segment still has its size."""
        return [os.fstat(fd).st_size for fd in self.fds] == self.sizes

    def indices(self) -> tuple[int, int]:
        """(first, last)"""
        first, last = _INDICES.unpack_from(self.ring)
        return first, last

    def all_indices(self) -> list[tuple[int, int]]:
        """(first, last) of each ring, the VM's first."""
        own = [_INDICES.unpack_from(memory, PAGE_SIZE) for memory in self.own_rings]
        return [self.indices(), *((first, last) for first, last in own)]

    @property
    def ring_places(self) -> list[tuple[int, int]]:
        """(index in `fds`, offset) of each ring, in the order of `all_indices`."""
        first = len(self.fds) - len(self.own)
        return [(0, 0), *((first + number, PAGE_SIZE) for number in range(len(self.own)))]

    def needed(self, segment: int) -> int:
        """Bytes of a segment, by its index in `fds`, without which its first words are gone."""
        return dict(self.ring_places).get(segment, 0) + 1

    def sound(self) -> bool:
        """Whether all indices are slots."""
        return all(max(indices) < self.slots for indices in self.all_indices())

    def unused_since(self, before: list[tuple[int, int]], segment: int) -> bool:
        """Whether a segment is a ring's whose indices are what they were in all those before."""
        places = [place for place, _ in self.ring_places]
        if segment not in places:
            return False
        ring = places.index(segment)
        return self.all_indices()[ring] == before[ring]

    def moves(self) -> list[tuple[int, int]]:
        """Values that change while the pair runs: the indices, each vCPU's exits and resumes."""
        words = core.EXIT_SEQUENCE, core.RESUME_SEQUENCE
        counts = [(_word(run, words[0]), _word(run, words[1])) for run in self.runs]
        return self.all_indices() + counts

    def published(self) -> NDArray[np.void]:
        """A copy of the entries of [first, last) of each ring, `data` cut to `len` bytes.

        Raises ValueError when an index is no slot.
        """
        rings = [(self.ring, 0), *((memory, PAGE_SIZE) for memory in self.own_rings)]
        batch = np.concatenate([self._entries(*ring) for ring in rings])
        shift = np.uint64(64) - np.uint64(8) * np.clip(batch["len"], 1, 8).astype(np.uint64)
        batch["data"] &= np.uint64((1 << 64) - 1) >> shift
        return batch

    def _entries(self, memory: mmap.mmap, offset: int) -> NDArray[np.void]:
        first, last = _INDICES.unpack_from(memory, offset)
        if first >= self.slots or last >= self.slots:
            raise ValueError(f"ring: first {first}, last {last} of {self.slots} slots")
        slots = np.frombuffer(
            memory, KVM_COALESCED_MMIO, self.slots, offset + KVM_COALESCED_MMIO_RING_HEADER
        )
        batch: NDArray[np.void] = slots[
            (first + np.arange((last - first) % self.slots)) % self.slots
        ]
        return batch

    def pending_exit(self, vcpu: int = 0) -> Write | None:
        """The write of a vCPU's exit that has not been answered, if there is one."""
        run = self.runs[vcpu]
        exits, resumes = _word(run, core.EXIT_SEQUENCE), _word(run, core.RESUME_SEQUENCE)
        if exits != resumes:
            return None  # the guest runs
        (reason,) = _U32.unpack_from(run, abi.KVM_RUN_EXIT_REASON)
        if reason == abi.KVM_EXIT_MMIO:
            address, data, length, is_write = abi.KVM_RUN_MMIO.unpack_from(run, abi.KVM_RUN_UNION)
            return Write(False, address, length, _cut(data, length)) if is_write else None
        if reason == abi.KVM_EXIT_IO:
            direction, length, port, _, _ = abi.KVM_RUN_IO.unpack_from(run, abi.KVM_RUN_UNION)
            data = run[PAGE_SIZE : PAGE_SIZE + 8]
            is_out = direction == abi.KVM_EXIT_IO_OUT
            return Write(True, port, length, _cut(data, length)) if is_out else None
        return None

    def word(self, offset: int) -> int:
        """A 32-bit word of the run page."""
        return _word(self.run, offset)

    def note(self, address: int, vcpu: int = 0) -> int:
        """The value of a note; `address`: where vCPU 0 has it."""
        at = address - guest.NOTES + vcpu * guest.NOTES_EACH
        (value,) = _U64.unpack_from(self.notes, at)
        return int(value)

    def leave_note(self, address: int, value: int, vcpu: int = 0) -> None:
        """Write a note; `address`: where vCPU 0 has it."""
        _U64.pack_into(self.notes, address - guest.NOTES + vcpu * guest.NOTES_EACH, value)

    def renew(self, start: int) -> None:
        """Restore the state before a guest runs, with both indices at `start`."""
        for memory in self.memories:
            memory[:] = bytes(len(memory))
        _INDICES.pack_into(self.ring, 0, start, start)

    def close(self) -> None:
        """Close descriptors and mappings."""
        for mapping in self.memories:
            mapping.close()
        for fd in (*self.fds, *self.channels, *self.events):
            os.close(fd)


def _word(run: mmap.mmap, offset: int) -> int:
    (value,) = _U32.unpack_from(run, offset)
    return int(value)


def _cut(data: bytes, length: int) -> int:
    return int.from_bytes(data[:length], "little")
