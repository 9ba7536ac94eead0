"""What `coalesced stress --corrupt --rings N` does to own rings: each kind by itself."""

from __future__ import annotations

import random
import struct
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from coalesced.hv import core
from coalesced.hv.abi import KVM_COALESCED_MMIO, PAGE_SIZE
from coalesced.hv.abi import KVM_COALESCED_MMIO_RING_HEADER as HEADER
from coalesced.tools.stress import corruptions, intrusions, places
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.lies import WAYS, about_ring
from coalesced.tools.stress.pair import Pair
from coalesced.tools.stress.places import Corruption, Draw
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.segments import Segments
from coalesced.tools.stress.totals import Totals
from helpers.orphans import orphans_are_ours  # noqa: F401 - a fixture of each test
from helpers.own_streams import own_streams
from helpers.tiers import every, some_heavy

TWO = Pins(vcpus=2, rings=2)  # nobody but the proofs writes into the VM's ring
ALIKE = Pins(vcpus=3, rings=1)  # vCPUs 0 and 2 share the own ring


def of_own_rings(make: Draw) -> Draw:
    """The same, without what is not about an own ring."""

    def draw(chance: random.Random, segments: Segments) -> Corruption | Intrusion:
        while True:
            drawn = make(chance, segments)
            if isinstance(drawn, Intrusion) or segments.fds[drawn.segment] in segments.own:
                return drawn

    return draw


def corrupted(make: Draw, times: int, pins: Pins) -> Totals:
    """The results of several corruptions, in pairs of each policy and placement."""
    totals, plan = Totals(), Plan(7, pins)
    while totals.corruptions < times:
        with own_streams():
            left = times - totals.corruptions
            corruptions.run(plan, left, sys.maxsize, totals, of_own_rings(make), 0.0)
    assert totals.failures == []
    assert totals.corruptions_detected + totals.corruptions_harmless == times
    return totals


@pytest.mark.parametrize("pins", [TWO, ALIKE], ids=["a ring each", "a ring for two"])
@pytest.mark.parametrize("make", [places.own_word, places.own_wait_note, intrusions.event])
def test_no_word_beside_an_own_ring_and_no_signal_does_any_harm(make: Draw, pins: Pins) -> None:
    """Both only say when the ring is looked into: an exit, or the end of a proof, does so, too."""
    assert corrupted(make, 24, pins).corruptions_harmless == 24


@pytest.mark.parametrize("pins", [TWO, ALIKE], ids=["a ring each", "a ring for two"])
def test_no_index_and_no_slot_of_an_own_ring_hangs_or_crashes_a_side(pins: Pins) -> None:
    """Of an index every second corruption is detected, of a slot every fourteenth."""
    assert corrupted(places.ring_index, 40, pins).corruptions_detected > 0
    corrupted(places.entry, 40, pins)


def test_an_own_ring_that_is_cut_off_is_found_out() -> None:
    """Its words, its indices, or its last slots are gone."""
    assert corrupted(places.truncation, 12, Pins(vcpus=2, rings=2, ring_pages=2)).pairs == 12


def test_messages_with_descriptors_of_own_rings_are_found_out_or_harmless() -> None:
    """Among them requests for one more ring, whose reply the VMM has not asked for."""
    corrupted(intrusions.message, 60, TWO)


@some_heavy("side, number", every(["hv", "vmm"], range(2)), lambda _, number: number == 0)
def test_no_lie_about_an_own_ring_hangs_or_crashes_a_side(side: str, number: int) -> None:
    """A VMM that got another ring than it asked for ends; one that got none uses the VM's."""
    harmless = set()
    for what in WAYS:
        totals, lie = Totals(), about_ring(side, number, what, 3)
        setup = replace(Plan(1, TWO).short(strict=False), lie=lie)
        with own_streams(), closing(Pair(setup)) as pair:
            corruptions.judge_lie(pair, lie, totals)
        assert (totals.failures, totals.corruptions) == ([], 1)
        harmless |= {what} if totals.corruptions_harmless else set()
    assert harmless == (set() if side == "hv" else {*WAYS} - {"cut", "empty"})


def test_a_proof_uses_every_slot_of_every_ring_again() -> None:
    """Also of the VM's, into which no vCPU writes by itself."""
    pins = replace(TWO, ring_pages=64)
    setup = replace(Plan(1, pins).short(strict=False), longest=1, start=0, posted=True)
    with own_streams(), closing(Pair(setup)) as pair:
        assert pair.starts()
        assert pair.segments is not None
        number = pair.ask()
        while pair.proved != number:
            assert pair.hear(60.0), "no proof"
        posted = [
            struct.unpack_from("<I", run, core.POSTED_SEQUENCE)[0] for run in pair.segments.runs
        ]
        rings = [(pair.segments.ring, 0), *((m, PAGE_SIZE) for m in pair.segments.own_rings)]
        lengths = [
            np.frombuffer(memory, KVM_COALESCED_MMIO, pair.segments.slots, start + HEADER)[
                "len"
            ].copy()
            for memory, start in rings
        ]
    assert len(lengths) == 3
    assert posted == [1, 1]
    assert all(np.all(length > 0) for length in lengths)
