"""What `coalesced stress --corrupt --rings N` does to own rings: each kind by itself."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import numpy as np
import pytest

from coalesced.hv import core
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.stress import intrusions, places
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.lies import WAYS, about_ring
from coalesced.tools.stress.places import Corruption, Draw
from coalesced.tools.stress.plan import Pins
from coalesced.tools.stress.segments import Segments
from helpers.orphans import orphans_are_ours  # noqa: F401 - a fixture of each test
from helpers.stressed import corrupted, judged, lengths, proved
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


@pytest.mark.parametrize("pins", [TWO, ALIKE], ids=["a ring each", "a ring for two"])
@pytest.mark.parametrize("make", [places.own_word, places.own_wait_note, intrusions.event])
def test_no_word_beside_an_own_ring_and_no_signal_does_any_harm(make: Draw, pins: Pins) -> None:
    """Both only say when the ring is looked into: an exit, or the end of a proof, does so, too."""
    assert corrupted(of_own_rings(make), 24, pins).corruptions_harmless == 24


@pytest.mark.parametrize("pins", [TWO, ALIKE], ids=["a ring each", "a ring for two"])
def test_no_index_and_no_slot_of_an_own_ring_hangs_or_crashes_a_side(pins: Pins) -> None:
    """Of an index every second corruption is detected, of a slot every fourteenth."""
    assert corrupted(of_own_rings(places.ring_index), 40, pins).corruptions_detected > 0
    corrupted(of_own_rings(places.entry), 40, pins)


def test_an_own_ring_that_is_cut_off_is_found_out() -> None:
    """Its words, its indices, or its last slots are gone."""
    assert (
        corrupted(of_own_rings(places.truncation), 12, Pins(vcpus=2, rings=2, ring_pages=2)).pairs
        == 12
    )


def test_messages_with_descriptors_of_own_rings_are_found_out_or_harmless() -> None:
    """Among them requests for one more ring, whose reply the VMM has not asked for."""
    corrupted(of_own_rings(intrusions.message), 60, TWO)


@some_heavy("side, number", every(["hv", "vmm"], range(2)), lambda _, number: number == 0)
def test_no_lie_about_an_own_ring_hangs_or_crashes_a_side(side: str, number: int) -> None:
    """A VMM that got another ring than it asked for ends; one that got none uses the VM's."""
    harmless = set()
    for what in WAYS:
        totals = judged(about_ring(side, number, what, 3), TWO)
        assert (totals.failures, totals.corruptions) == ([], 1)
        harmless |= {what} if totals.corruptions_harmless else set()
    assert harmless == (set() if side == "hv" else {*WAYS} - {"cut", "empty"})


def test_a_proof_uses_every_slot_of_every_ring_again() -> None:
    """Also of the VM's, into which no vCPU writes by itself."""
    with proved(replace(TWO, ring_pages=64), posted=True) as segments:
        posted = [struct.unpack_from("<I", run, core.POSTED_SEQUENCE)[0] for run in segments.runs]
        rings = [(segments.ring, 0), *((memory, PAGE_SIZE) for memory in segments.own_rings)]
        written = [lengths(memory, segments.slots, start) for memory, start in rings]
    assert len(written) == 3
    assert posted == [1, 1]
    assert all(np.all(each > 0) for each in written)
