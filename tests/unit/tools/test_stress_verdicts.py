"""The verdict about a corruption, by what the two sides do afterwards."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from coalesced.hv import core
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.rings.patience import Patience
from coalesced.tools.stress import corruptions, full_speed, guest
from coalesced.tools.stress.pair import Message, Pair
from coalesced.tools.stress.places import Corruption
from coalesced.tools.stress.segments import Segments

ERROR: Message = {"kind": "error", "type": "SegmentError", "text": "", "guest_status": None}


@pytest.fixture
def segments() -> Iterator[Segments]:
    fds = []
    for pages in (2, 2, 1):
        fds.append(os.memfd_create("segment"))
        os.ftruncate(fds[-1], pages * PAGE_SIZE)
    with closing(Segments(fds[0], fds[1], fds[2])) as made:
        yield made


class Sides:
    """Two sides of which the guest ends a proof each time that somebody listens."""

    def __init__(self, segments: Segments, moves: bool, error_after: int | None = None) -> None:
        self.last: Message = {}
        self.proved = 0
        self.segments = segments
        self._moves = moves
        self._left = error_after
        self._bursts = 0

    def hear(self, _seconds: float) -> Message | None:
        self._bursts += 1
        self.proved = self.segments.note(guest.ASKED)
        if self._moves:
            struct.pack_into("<II", self.segments.ring, 0, *2 * [self._bursts % 170])
        if self._left == self._bursts:
            self.last = ERROR
        return self.last

    def ask(self) -> int:
        return Pair.ask(cast("Pair", cast("Any", self)))

    def patience(self) -> Patience:
        return Patience(list)

    def ended(self, _side: str, _seconds: float = 0) -> bool:
        return False


def verdict(sides: Sides, segments: Segments, corruption: Corruption) -> str:
    corruption.carry_out(segments)
    return corruptions.verdict_on(cast("Pair", cast("Any", sides)), segments, corruption)


def cut(offset: int, segment: int = 0) -> Corruption:
    return Corruption("truncation", segment, offset, b"")


def test_a_cut_ring_that_is_not_used_any_more_is_harmless(segments: Segments) -> None:
    """It looks full for good by an index that was corrupted before: each write exits."""
    assert verdict(Sides(segments, moves=False), segments, cut(PAGE_SIZE)) == "harmless"


def test_a_cut_ring_that_is_used_must_be_detected(segments: Segments) -> None:
    """It is no proof of harmlessness that both sides go on for a while."""
    sides = Sides(segments, moves=True, error_after=100)
    assert verdict(sides, segments, cut(PAGE_SIZE)) == "detected"


@pytest.mark.parametrize(("segment", "offset"), [(0, 0), (1, 0), (2, 0)])
def test_nothing_but_an_error_can_come_of_another_cut(
    segments: Segments, segment: int, offset: int
) -> None:
    """Its first page is not looked at here, either: that would be a SIGBUS."""

    class Silent(Sides):
        def hear(self, _seconds: float) -> Message | None:
            self._bursts += 1
            self.last = ERROR if self._bursts == 100 else {}
            return self.last

    sides = Silent(segments, moves=False)
    assert verdict(sides, segments, cut(offset, segment)) == "detected"


def test_another_corruption_is_harmless_once_the_guest_has_proved_that_it_goes_on(
    segments: Segments,
) -> None:
    corruption = Corruption("data", 0, 24, bytes(8))
    assert verdict(Sides(segments, moves=True), segments, corruption) == "harmless"
    struct.pack_into("<I", segments.ring, 4, segments.slots)
    sides = Sides(segments, moves=False, error_after=50)
    assert verdict(sides, segments, corruption) == "detected"


def test_a_pair_that_does_not_move_hangs_only_when_it_could_have_moved(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that waits for a CPU of a busy machine is no hang, however long that takes."""
    clock = iter(range(1000))

    class Waiting(Sides):
        state = "R"

        def hear(self, _seconds: float) -> Message | None:
            self._left = self._left and self._left - 1
            if self._left == 0:
                self.last = ERROR
            return self.last

        def patience(self) -> Patience:
            return Patience(lambda: [1], lambda: next(clock), lambda pid: (pid, self.state, 0.0))

    index = Corruption("first", 0, 0, struct.pack("<I", 7))
    assert verdict(Waiting(segments, moves=False, error_after=100), segments, index) == "detected"
    monkeypatch.setattr(Waiting, "state", "S")
    sides = Waiting(segments, moves=False, error_after=100)
    assert verdict(sides, segments, index).startswith("a hang")


class Slow:
    """A pair after `stop`. `moves`: counts that are read before and after each wait for its end."""

    def __init__(self, moves: list[int], ends: bool = False, gone: bool = False) -> None:
        self.segments = self
        self._moves = iter(moves)
        self._waits = len(moves) // 2
        self._ends, self._gone = ends, gone

    def moves(self) -> list[tuple[int, int]]:
        return [(next(self._moves), 0)]

    def wait(self, kind: str, seconds: float) -> bool:
        self._waits -= 1
        return self._ends and self._waits <= 0

    def ended(self, side: str) -> bool:
        return self._gone


def ends(pair: Slow) -> bool:
    return full_speed.ends(cast(Pair, pair))


def test_a_slow_pair_may_take_long_to_end_and_one_that_hangs_may_not() -> None:
    assert ends(Slow([1, 2, 2, 3, 3], ends=True))
    assert not ends(Slow([1, 2, 2, 3, 3, 3]))
    assert not ends(Slow([1, 2], gone=True))
    assert not ends(Slow(list(range(1000))))


def test_an_exit_and_an_entry_are_moves(segments: Segments) -> None:
    seen = [segments.moves()]
    for memory, offset in (
        (segments.ring, 0),
        (segments.ring, 4),
        (segments.run, core.EXIT_SEQUENCE),
        (segments.run, core.RESUME_SEQUENCE),
    ):
        struct.pack_into("<I", memory, offset, 7)
        seen.append(segments.moves())
    assert len({tuple(each) for each in seen}) == len(seen)
