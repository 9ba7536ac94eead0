"""Pairs under stress: lies, corruptions and proofs."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.hv.abi import KVM_COALESCED_MMIO_RING_HEADER as HEADER
from coalesced.tools.stress import corruptions
from coalesced.tools.stress.lies import Lie
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.places import Draw
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.segments import Segments
from coalesced.tools.stress.totals import Totals
from helpers.own_streams import own_streams

ONE = Pins()


def judged(lie: Lie, pins: Pins = ONE, warm: Warm | None = None) -> Totals:
    """The verdict on one lie."""
    totals = Totals()
    setup = replace(Plan(1, pins).short(strict=False), lie=lie)
    with own_streams(), closing(Pair(setup, warm)) as pair:
        corruptions.judge_lie(pair, lie, totals)
        pair.finish()
    return totals


def corrupted(draw: Draw, times: int, pins: Pins = ONE) -> Totals:
    """The verdicts on so many corruptions, in pairs of each policy and placement."""
    totals, plan = Totals(), Plan(7, pins)
    while totals.corruptions < times:
        with own_streams():
            corruptions.run(plan, times - totals.corruptions, sys.maxsize, totals, draw, 0.0)
    assert totals.failures == []
    assert totals.corruptions_detected + totals.corruptions_harmless == times
    return totals


@contextmanager
def proved(pins: Pins, posted: bool = False) -> Iterator[Segments]:
    """The segments of a pair whose guest wrote little before it gave a proof."""
    setup = replace(Plan(1, pins).short(strict=False), longest=1, start=0, posted=posted)
    with own_streams(), closing(Pair(setup)) as pair:
        assert pair.starts()
        assert pair.segments is not None
        number = pair.ask()
        while pair.proved != number:
            assert pair.hear(60.0), "no proof"
        yield pair.segments


def lengths(memory: mmap.mmap, slots: int, start: int = 0) -> NDArray[np.uint32]:
    """`len` of each slot of the ring at `start`: 0 where no entry was ever written."""
    entries = np.frombuffer(memory, KVM_COALESCED_MMIO, slots, start + HEADER)
    return entries["len"].copy()
