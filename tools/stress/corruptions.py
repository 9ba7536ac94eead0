"""A third party that corrupts the segments and channels of a pair, or a side that lies."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import nullcontext
from dataclasses import replace

from coalesced.hv import core
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.stress import guest, places
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.lanes import Cpus
from coalesced.tools.stress.lies import Lie
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.places import Corruption, Draw
from coalesced.tools.stress.plan import Plan
from coalesced.tools.stress.segments import Segments
from coalesced.tools.stress.totals import Totals

LIARS = 0.1  # share of pairs in which a side lies at the start
_LONGEST_VERDICT = 60.0  # seconds
_PATIENCE = 5.0  # seconds, for the second side to end after the first
_LOOK_EVERY = 0.005  # seconds without a message: each look takes CPU time from both sides
_LONGEST_WAIT = 0.0005  # seconds between a proof and the next corruption at most
_SHORTEST_WAIT = 0.00005  # a sleep takes that long at least
_SHORTER = 8  # the ninth part of that on average: both sides use CPU time meanwhile
_HANGS = "a hang: neither side made progress or reported an error"
_KNOWN = ("ProtocolError", "SegmentError", "PeerDied", "GuestError", "RequestError", "HostError")


def run(
    plan: Plan,
    most: int,
    deadline: float,
    totals: Totals,
    draw: Draw = places.draw,
    liars: float = LIARS,
    warm: Warm | None = None,
    cpus: Cpus | None = None,
) -> None:
    """Corrupt one pair until a side detects it, `most` times, or until the deadline.

    `draw` chooses the next corruption. `liars`: share of the pairs in which a side lies instead.
    `warm`: keeps the processes for the next pair. `cpus`: of which pairs side by side take theirs.
    """
    setup = plan.short(strict=False)
    if plan.random.random() < liars:
        setup = replace(setup, lie=Lie.draw(plan.random, setup.rings))
    setup = warm.fit(setup) if warm else setup
    used = setup.cpus_of(len(os.sched_getaffinity(0)))
    with cpus.taken(used) if cpus and setup.spins else nullcontext():
        _corrupt(Pair(setup, warm), plan.random, most, deadline, totals, draw)


def _corrupt(
    pair: Pair,
    chance: random.Random,
    most: int,
    deadline: float,
    totals: Totals,
    draw: Draw,
) -> None:
    """Corrupt a pair until a side detects it, `most` times, or until the deadline."""
    setup = pair.setup
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
            if (pause := _LONGEST_WAIT * chance.random() ** _SHORTER) > _SHORTEST_WAIT:
                time.sleep(pause)
            corruption = draw(chance, segments)
            totals.corruptions += 1
            started = time.monotonic()
            corruption.carry_out(segments)
            verdict = verdict_on(pair, segments, corruption)
            if corruption.data and not canaries.intact():
                verdict = "a stray access: unused bytes have changed"
            what = f"{corruption.what} <- {corruption.data.hex()}"
            totals.judge(pair, what, verdict, time.monotonic() - started)
            pair.sound = verdict in ("harmless", "detected")
            if verdict != "harmless" or not corruption.data:
                return  # nothing here may write to what is gone
    finally:
        totals.count(pair)
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
    """Bytes of the segments that nothing uses: between the words and the notes about waits, also
    of own rings, and behind those, the PIO data and the guest's own notes."""

    def __init__(self, segments: Segments) -> None:
        words = core.FIRST_OPERATION + 64
        behind = slice(core.WAITS_OFFSET + core.WAITS_SIZE, PAGE_SIZE)
        self._places = (
            (segments.run, slice(words, core.WAITS_OFFSET)),
            *((own, slice(64, core.WAITS_OFFSET)) for own in segments.own_rings),
            *((noted, behind) for noted in (segments.run, *segments.own_rings)),
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
    every slot of its ring again, vCPU 0 of the VM's, too, and had exits of each kind, so that
    nothing of the corruption is left to be found; indices and segments are what they should be. A
    truncation that leaves a ring's first page is harmless if the guest has gone on without the
    ring, which an index that was corrupted before can make look full for good.
    """
    cut = corruption if isinstance(corruption, Corruption) and not corruption.data else None
    if cut is not None and cut.offset < segments.needed(cut.segment):
        return _fatal(pair)  # nothing here may look at what is gone
    indices = segments.all_indices()
    asked = pair.ask()
    end, patience = time.monotonic() + _LONGEST_VERDICT, pair.patience()
    while time.monotonic() < end:
        if _has_ended(pair):
            return _end(pair)
        if pair.proved == asked:
            if cut is None:
                sound = segments.sound() and segments.whole()
            else:
                sound = segments.unused_since(indices, cut.segment)
            if sound:
                return "harmless"
            asked = pair.ask()
        if patience.over(segments.moves()):
            break
    return _HANGS


def _fatal(pair: Pair) -> str:
    """The verdict about a corruption of which nothing but an error can come."""
    end, patience = time.monotonic() + _LONGEST_VERDICT, pair.patience()
    while time.monotonic() < end and not patience.over():
        if _has_ended(pair):
            return _end(pair)
    return _HANGS


def _has_ended(pair: Pair) -> bool:
    """Whether a side has ended, or has reported an error; waits a moment for that."""
    heard = pair.hear(_LOOK_EVERY)
    if heard is None or pair.last:
        return True
    if not heard and pair.ended("hv"):
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
