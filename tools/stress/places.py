"""The corruptions of a third party: which bytes of which segment it writes over, or cuts off."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from coalesced.hv import abi, core
from coalesced.hv.abi import KVM_COALESCED_MMIO, KVM_COALESCED_MMIO_RING_HEADER, PAGE_SIZE
from coalesced.tools.stress import intrusions
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.segments import Segments

_RUN_WORDS = (
    core.EXIT_SEQUENCE,
    core.POSTED_SEQUENCE,
    core.RESUME_SEQUENCE,
    core.VMM_NEED_WAKEUP,
    core.HV_NEED_WAKEUP,
    core.REQUEST_SEQUENCE,
    core.IRQ_LINES,
    core.FIRST_OPERATION,
)
_RUN, _NOTES, _OTHERS = 1, 2, 3  # in Segments.fds; the run pages of others come third
_HAMMERED = 0.5  # share of an index's corruptions that are repeated at full speed
_MOST_AGAIN = 3000
_SLOT_FIELDS = [(name, place[1]) for name, place in (KVM_COALESCED_MMIO.fields or {}).items()]
_SLOT = KVM_COALESCED_MMIO.itemsize
# (offset, bytes) of the fields of kvm_run that either side uses.
_RUN_FIELDS = (
    (abi.KVM_RUN_IMMEDIATE_EXIT, 1),
    (abi.KVM_RUN_EXIT_REASON, 4),
    (abi.KVM_RUN_UNION, 8),  # mmio.phys_addr; io.direction, size, port, count
    (abi.KVM_RUN_UNION + 8, 8),  # mmio.data; io.data_offset
    (abi.KVM_RUN_UNION + 16, 4),  # mmio.len
    (abi.KVM_RUN_UNION + 20, 1),  # mmio.is_write
    (PAGE_SIZE, 8),  # data of an IO exit
)


@dataclass(frozen=True)
class Corruption:
    """Bytes over a place, or a new size of a segment."""

    what: str
    segment: int  # index of Segments.fds
    offset: int
    data: bytes  # empty: the segment is cut off at `offset`
    again: int = 0  # how often what was there before is put back, and the bytes written again

    def carry_out(self, segments: Segments) -> None:
        if not self.data:
            os.ftruncate(segments.fds[self.segment], self.offset)
            return
        memory = segments.memories[self.segment]
        place = slice(self.offset, self.offset + len(self.data))
        before = memory[place]
        memory[place] = self.data
        for _ in range(self.again):
            # Wrong for a moment only: a single read mostly finds a valid value.
            memory[place] = before
            memory[place] = before
            memory[place] = before
            memory[place] = self.data


Draw = Callable[[random.Random, Segments], Corruption | Intrusion]


def draw(chance: random.Random, segments: Segments) -> Corruption | Intrusion:
    """The next corruption."""
    makers = _ALL if segments.own else _COMMON
    return chance.choices(list(makers), list(makers.values()))[0](chance, segments)


def ring_index(chance: random.Random, segments: Segments) -> Corruption:
    """An index of any ring, once or at full speed, to change it between two reads of the other
    side."""
    ring, place, start = _any_ring(chance, segments)
    name, offset = chance.choice((("first", start), ("last", start + 4)))
    if chance.random() < _HAMMERED:
        value = struct.pack("<I", chance.randrange(segments.slots, 1 << 32))
        again = int(_MOST_AGAIN ** chance.random())
        return Corruption(f"{name} of ring {ring}", place, offset, value, again)
    value = struct.pack("<I", _nasty(chance, segments.slots))
    return Corruption(f"{name} of ring {ring}", place, offset, value)


def entry(chance: random.Random, segments: Segments) -> Corruption:
    """A field of a slot of any ring: mostly of one that is in use, or will be next."""
    ring, place, start = _any_ring(chance, segments)
    field, within = chance.choice(_SLOT_FIELDS)
    first, last = segments.all_indices()[ring]
    near = chance.choice((first, last, last - 1, chance.randrange(segments.slots)))
    slot = (near + chance.randrange(4)) % segments.slots
    offset = start + KVM_COALESCED_MMIO_RING_HEADER + slot * _SLOT + within
    if field in ("len", "pio"):
        value = struct.pack("<I", _nasty(chance, chance.choice((2, 9))))
    else:
        value = struct.pack("<Q", chance.choice((0, (1 << 64) - 1, chance.getrandbits(64))))
    return Corruption(f"{field} of slot {slot} of ring {ring}", place, offset, value)


def _any_ring(chance: random.Random, segments: Segments) -> tuple[int, int, int]:
    """A ring: its number, 0 for the VM's; its segment in Segments.fds and its offset there."""
    number, place = chance.choice(list(enumerate(segments.ring_places)))
    return number, *place


def _own_ring(chance: random.Random, segments: Segments) -> tuple[int, int]:
    """An own ring: its number, and its segment in Segments.fds."""
    number = chance.randrange(len(segments.own)) + 1
    return number, segments.ring_places[number][0]


def _run_page(chance: random.Random, segments: Segments) -> int:
    """The run page of any vCPU."""
    others = len(segments.runs) - 1
    return chance.choice((_RUN, *(_OTHERS + number for number in range(others))))


def _run_field(chance: random.Random, segments: Segments) -> Corruption:
    offset, size = chance.choice(_RUN_FIELDS)
    value = chance.choice((0, 1, (1 << 8 * size) - 1, chance.getrandbits(8 * size)))
    page = _run_page(chance, segments)
    return Corruption(f"run page at {offset}", page, offset, value.to_bytes(size, "little"))


def _run_word(chance: random.Random, segments: Segments) -> Corruption:
    offset = chance.choice(_RUN_WORDS)
    page = _run_page(chance, segments)
    (now,) = struct.unpack_from("<I", segments.memories[page], offset)
    value = chance.choice((0, now + 1, now - 1, chance.getrandbits(32))) & 0xFFFF_FFFF
    return Corruption(f"run page at {offset}", page, offset, struct.pack("<I", value))


def _wait_note(chance: random.Random, _segments: Segments) -> Corruption:
    return _note_about_a_wait(chance, "run page", _RUN)


def own_wait_note(chance: random.Random, segments: Segments) -> Corruption:
    """A note about a wait in an own ring."""
    ring, place = _own_ring(chance, segments)
    return _note_about_a_wait(chance, f"ring {ring}", place)


def _note_about_a_wait(chance: random.Random, where: str, segment: int) -> Corruption:
    offset = core.WAITS_OFFSET + 8 * chance.randrange(core.WAITS_SIZE // 8)
    value = chance.choice((0, 1, (1 << 64) - 1, chance.getrandbits(64)))
    what = f"note about a wait of {where} at {offset}"
    return Corruption(what, segment, offset, struct.pack("<Q", value))


def own_word(chance: random.Random, segments: Segments) -> Corruption:
    """The word that says whether an own ring's descriptor has been written."""
    ring, place = _own_ring(chance, segments)
    value = struct.pack("<I", _nasty(chance, 2))
    again = int(_MOST_AGAIN ** chance.random()) if chance.random() < _HAMMERED else 0
    return Corruption(f"word of ring {ring}", place, 0, value, again)


def truncation(chance: random.Random, segments: Segments) -> Corruption:
    """A segment cut off at the end of a page, or emptied."""
    ring, place, _ = _any_ring(chance, segments)
    segment = chance.choice((place, _run_page(chance, segments), _NOTES))
    pages = segments.sizes[segment] // PAGE_SIZE
    offset = chance.randrange(pages) * PAGE_SIZE
    name = {place: f"ring {ring}", _NOTES: "notes"}.get(segment, "run page")
    return Corruption(f"truncation of {name} to {offset} bytes", segment, offset, b"")


# Relative frequencies.
_COMMON: dict[Draw, int] = {
    ring_index: 30,
    entry: 38,
    _run_field: 14,
    _run_word: 8,
    _wait_note: 2,
    truncation: 1,
    intrusions.pipe: 5,
    intrusions.message: 2,
}
_OWN: dict[Draw, int] = {own_word: 8, own_wait_note: 2, intrusions.event: 5}
_ALL = {**_COMMON, **_OWN, truncation: 3}


def _nasty(chance: random.Random, limit: int) -> int:
    """Mostly values at an edge: of what is below `limit`, or of 32 bits."""
    return chance.choice(
        (0, 1, limit - 1, limit, 0xFFFF_FFFF, chance.getrandbits(32), chance.randrange(limit))
    )
