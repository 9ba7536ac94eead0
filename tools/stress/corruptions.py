"""A third party that corrupts the segments and channels of a pair, or a side that lies."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

from coalesced.hv import abi, core
from coalesced.hv.abi import KVM_COALESCED_MMIO, KVM_COALESCED_MMIO_RING_HEADER, PAGE_SIZE
from coalesced.tools.stress import guest, intrusions
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.lies import Lie
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.plan import Plan
from coalesced.tools.stress.segments import Segments
from coalesced.tools.stress.totals import Totals

LIARS = 0.1  # share of pairs in which a side lies at the start
_LONGEST_VERDICT = 60.0  # seconds
_PATIENCE = 5.0  # seconds, for the second side to end after the first
_HAMMERED = 0.5  # share of an index's corruptions that are repeated at full speed
_MOST_AGAIN = 3000
_LOOK_EVERY = 0.005  # seconds without a message: each look takes CPU time from both sides
_LONGEST_WAIT = 0.0005  # seconds between a proof and the next corruption at most
_SHORTER = 8  # the ninth part of that on average: both sides use CPU time meanwhile
_HANGS = "a hang: neither side made progress or reported an error"
_KNOWN = ("ProtocolError", "SegmentError", "PeerDied", "GuestError", "RequestError", "HostError")

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
_RING, _RUN, _NOTES, _OTHERS = 0, 1, 2, 3  # in Segments.fds; the run pages of others come last
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
    return chance.choices(_MAKERS, cum_weights=_WEIGHTS)[0](chance, segments)


def _index(chance: random.Random, segments: Segments) -> Corruption:
    """An index, once or at full speed, to change it between two reads of the other side."""
    name, offset = chance.choice((("first", 0), ("last", 4)))
    if chance.random() < _HAMMERED:
        value = struct.pack("<I", chance.randrange(segments.slots, 1 << 32))
        return Corruption(name, 0, offset, value, int(_MOST_AGAIN ** chance.random()))
    return Corruption(name, 0, offset, struct.pack("<I", _nasty(chance, segments.slots)))


def _entry(chance: random.Random, segments: Segments) -> Corruption:
    """A field of a slot: mostly of one that is in use, or will be next."""
    field, within = chance.choice(_SLOT_FIELDS)
    first, last = segments.indices()
    near = chance.choice((first, last, last - 1, chance.randrange(segments.slots)))
    slot = (near + chance.randrange(4)) % segments.slots
    offset = KVM_COALESCED_MMIO_RING_HEADER + slot * _SLOT + within
    if field in ("len", "pio"):
        value = struct.pack("<I", _nasty(chance, chance.choice((2, 9))))
    else:
        value = struct.pack("<Q", chance.choice((0, (1 << 64) - 1, chance.getrandbits(64))))
    return Corruption(f"{field} of slot {slot}", 0, offset, value)


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
    offset = core.WAITS_OFFSET + 8 * chance.randrange(core.WAITS_SIZE // 8)
    value = chance.choice((0, 1, (1 << 64) - 1, chance.getrandbits(64)))
    return Corruption(f"note about a wait at {offset}", 1, offset, struct.pack("<Q", value))


def _truncation(chance: random.Random, segments: Segments) -> Corruption:
    segment = chance.choice((_RING, _run_page(chance, segments), _NOTES))
    pages = segments.sizes[segment] // PAGE_SIZE
    offset = chance.randrange(pages) * PAGE_SIZE
    name = {_RING: "ring", _NOTES: "notes"}.get(segment, "run page")
    return Corruption(f"truncation of {name} to {offset} bytes", segment, offset, b"")


_SHARES: dict[Draw, int] = {
    _index: 30,
    _entry: 38,
    _run_field: 14,
    _run_word: 8,
    _wait_note: 2,
    _truncation: 1,
    intrusions.pipe: 5,
    intrusions.message: 2,
}
_MAKERS, _WEIGHTS = list(_SHARES), list(accumulate(_SHARES.values()))


def _nasty(chance: random.Random, limit: int) -> int:
    """Mostly values at an edge: of what is below `limit`, or of 32 bits."""
    return chance.choice(
        (0, 1, limit - 1, limit, 0xFFFF_FFFF, chance.getrandbits(32), chance.randrange(limit))
    )


def run(
    plan: Plan,
    most: int,
    deadline: float,
    totals: Totals,
    draw: Draw = draw,
    liars: float = LIARS,
    warm: Warm | None = None,
) -> None:
    """Corrupt one pair until a side detects it, `most` times, or until the deadline.

    `draw` chooses the next corruption. `liars`: share of the pairs in which a side lies instead.
    `warm`: keeps the processes for the next pair.
    """
    setup = plan.short(strict=False)
    if plan.random.random() < liars:
        setup = replace(setup, lie=Lie.draw(plan.random))
    pair = Pair(setup, warm)
    try:
        if setup.lie is not None:
            judge_lie(pair, setup.lie, totals)
            return
        if not pair.starts():
            totals.fail(pair, "it does not start")
            return
        segments = pair.segments
        assert segments is not None
        canaries = _Canaries(segments)
        while most > 0 and time.monotonic() < deadline:
            most -= 1
            time.sleep(_LONGEST_WAIT * plan.random.random() ** _SHORTER)
            corruption = draw(plan.random, segments)
            totals.corruptions += 1
            started = time.monotonic()
            corruption.carry_out(segments)
            verdict = verdict_on(pair, segments, corruption)
            if corruption.data and not canaries.intact():
                verdict = "a stray access: unused bytes have changed"
            what = f"{corruption.what} <- {corruption.data.hex()}"
            totals.judge(pair, what, verdict, time.monotonic() - started)
            if verdict != "harmless" or not corruption.data:
                return  # nothing here may write to what is gone
    finally:
        totals.pairs += 1
        pair.finish()
        pair.close()


def judge_lie(pair: Pair, lie: Lie, totals: Totals) -> None:
    """Judge a lie: the pair must not start, or must run as usual."""
    totals.corruptions += 1
    started = time.monotonic()
    if pair.wait("ready", _LONGEST_VERDICT) and pair.segments is not None:
        verdict = verdict_on(pair, pair.segments, Corruption(str(lie), 0, 0, b"\0"))
    elif pair.last or pair.ended("vmm"):
        verdict = _end(pair)
    else:
        verdict = "a hang: the pair neither starts nor reports an error"
    totals.judge(pair, str(lie), verdict, time.monotonic() - started)


class _Canaries:
    """Bytes of the segments that nothing uses: between the words and the notes about waits, and
    behind those, the PIO data and the guest's own notes."""

    def __init__(self, segments: Segments) -> None:
        words = core.FIRST_OPERATION + 64
        self._places = (
            (segments.run, slice(words, core.WAITS_OFFSET)),
            (segments.run, slice(core.WAITS_OFFSET + core.WAITS_SIZE, PAGE_SIZE)),
            *((run, slice(PAGE_SIZE + 8, 2 * PAGE_SIZE)) for run in segments.runs),
            (segments.notes, slice(guest.NOTES_EACH * len(segments.runs), PAGE_SIZE)),
        )
        self._wanted = [b"\xc5" * (place.stop - place.start) for _, place in self._places]
        for (memory, place), wanted in zip(self._places, self._wanted, strict=True):
            memory[place] = wanted

    def intact(self) -> bool:
        return [memory[place] for memory, place in self._places] == self._wanted


def verdict_on(pair: Pair, segments: Segments, corruption: Corruption | Intrusion) -> str:
    """'detected', 'harmless', or what is wrong.

    Harmless: the guest has gone on, and each vCPU proved on request that it and the VMM do: it used
    every slot of the ring again, and had exits of each kind, so that nothing of the corruption is
    left to be found; indices and segments are what they should be. A truncation that leaves the
    ring's first page is harmless if the guest has gone on without the ring, which an index that was
    corrupted before can make look full for good.
    """
    cut = corruption if isinstance(corruption, Corruption) and not corruption.data else None
    if cut is not None and not _may_be_looked_at(cut):
        return _fatal(pair)
    indices = segments.indices()
    asked = pair.ask()
    end, patience = time.monotonic() + _LONGEST_VERDICT, pair.patience()
    while time.monotonic() < end:
        if _has_ended(pair):
            return _end(pair)
        if patience.over((segments.indices(), segments.word(core.EXIT_SEQUENCE))):
            break
        if pair.proved == asked:
            first, last = segments.indices()
            sound = first < segments.slots and last < segments.slots and segments.whole()
            if cut is not None:
                sound = cut.segment == _RING and (first, last) == indices
            if sound:
                return "harmless"
            asked = pair.ask()
    return _HANGS


def _may_be_looked_at(cut: Corruption) -> bool:
    """Whether the first page of each segment, with all that is read here, is still there."""
    return cut.offset > 0


def _fatal(pair: Pair) -> str:
    """The verdict about a corruption of which nothing but an error can come."""
    end, patience = time.monotonic() + _LONGEST_VERDICT, pair.patience()
    while time.monotonic() < end and not patience.over():
        if _has_ended(pair):
            return _end(pair)
    return _HANGS


def _has_ended(pair: Pair) -> bool:
    """Whether a side has ended, or has reported an error; waits a moment for that."""
    if pair.hear(_LOOK_EVERY) is None or pair.last:
        return True
    if pair.ended("hv"):
        pair.wait("last", _PATIENCE)
        return True
    return False


def _end(pair: Pair) -> str:
    """The verdict when a side has ended, or has reported an error."""
    if pair.last.get("kind") == "error" and pair.last.get("type") in _KNOWN:
        if pair.last["type"] == "GuestError" and pair.last["text"]:
            return f"a crash: the guest raised {pair.last['text']}"
        status = pair.last["guest_status"]
        if status in (None, 0, 1, -signal.SIGKILL):
            return "detected"
        return f"a crash: the guest process ended with status {status}"
    if pair.last.get("kind") == "done":
        return "the guest has ended as if the run had been stopped"
    pair.ended("vmm", _PATIENCE)
    return f"a crash: the VMM ended with status {pair.exit_status('vmm')}"
