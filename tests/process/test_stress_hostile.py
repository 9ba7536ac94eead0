"""What `coalesced stress --corrupt` does to channels and at the start: each kind by itself."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from itertools import product

import numpy as np
import pytest

from coalesced.hv import core
from coalesced.tools.stress import intrusions
from coalesced.tools.stress.lies import VCPU, WAYS, Lie
from coalesced.tools.stress.pair import Warm
from coalesced.tools.stress.plan import Pins
from helpers.orphans import orphans_are_ours  # noqa: F401 - a fixture of each test
from helpers.stressed import corrupted, judged, lengths, proved
from helpers.tiers import every, some_heavy


@pytest.mark.parametrize("place", range(3), ids=["run page", "exit pipe", "resume pipe"])
@pytest.mark.parametrize("what", WAYS)
def test_a_guest_process_that_lies_about_its_vcpu_is_found_out(what: str, place: int) -> None:
    """It hands over other things than memory and pipes."""
    totals = judged(Lie("hv", VCPU, what, -1, place))
    assert (totals.corruptions_detected, totals.failures) == (1, [])


@some_heavy("side, number", every(["hv", "vmm"], range(8)), lambda _, number: number in (0, VCPU))
def test_whatever_a_message_is_changed_to_the_pair_reports_it_or_runs(
    side: str, number: int
) -> None:
    """Each kind of lie at each place, in processes that run one pair after the other."""
    with closing(Warm()) as warm:
        for what, place in product(WAYS, range(3)):
            totals = judged(Lie(side, number, what, -12, place), warm=warm)
            assert totals.failures == []
            assert totals.corruptions_detected + totals.corruptions_harmless == 1


def test_another_child_of_the_process_is_left_alone() -> None:
    """The end of a pair neither waits for it nor takes its exit status."""
    with subprocess.Popen(
        [sys.executable, "-c", "input(); exit(7)"], stdin=subprocess.PIPE
    ) as other:
        totals = judged(Lie("hv", VCPU, WAYS[0], -1, 0))
        assert (totals.corruptions_detected, totals.failures) == (1, [])
        other.communicate(b"\n")
    assert other.returncode == 7


@some_heavy("side, number", every(["hv", "vmm"], range(8)), lambda _, number: number in (0, 4, 7))
def test_no_lie_hangs_or_crashes_a_side(side: str, number: int) -> None:
    """Either side lies, at any time."""
    for what in ("/dev/zero", "more descriptors", "cut", "empty", "number"):
        totals = judged(Lie(side, number, what, 3))
        assert totals.corruptions_detected + totals.corruptions_harmless == 1, totals.failures


def test_nothing_in_a_pipe_does_any_harm() -> None:
    """Junk, theft, and a pipe that is full and blocks: a byte only wakes."""
    assert corrupted(intrusions.pipe, 60).corruptions_harmless == 60


def test_messages_of_a_third_party_are_found_out_or_harmless() -> None:
    """Requests that do not exist, replies to nothing, with descriptors or without."""
    assert corrupted(intrusions.message, 60).corruptions_detected > 0


def test_a_proof_uses_every_slot_of_the_ring_again() -> None:
    """It is asked for when the guest has written few entries by itself, one at a time."""
    with proved(Pins(ring_pages=64)) as segments:
        written = lengths(segments.ring, segments.slots)
        exits = segments.word(core.EXIT_SEQUENCE)
    assert np.all(written > 0)
    assert exits >= 4
