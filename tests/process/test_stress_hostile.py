"""What `coalesced stress --corrupt` does to channels and at the start: each kind by itself."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from coalesced.hv import core
from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.hv.abi import KVM_COALESCED_MMIO_RING_HEADER as HEADER
from coalesced.tools.stress import corruptions, intrusions
from coalesced.tools.stress.intrusions import Intrusion
from coalesced.tools.stress.lies import VCPU, WAYS, Lie
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.segments import Segments
from coalesced.tools.stress.totals import Totals
from helpers.orphans import orphans_are_ours  # noqa: F401 - a fixture of each test
from helpers.own_streams import own_streams
from helpers.tiers import every, some_heavy


def told(lie: Lie, warm: Warm | None = None) -> Totals:
    """The result of one intrusion."""
    totals = Totals()
    setup = replace(Plan(1, Pins()).short(strict=False), lie=lie)
    with own_streams(), closing(Pair(setup, warm)) as pair:
        corruptions.judge_lie(pair, lie, totals)
        pair.finish()
    return totals


@pytest.mark.parametrize("place", range(3), ids=["run page", "exit pipe", "resume pipe"])
@pytest.mark.parametrize("what", WAYS)
def test_a_guest_process_that_lies_about_its_vcpu_is_found_out(what: str, place: int) -> None:
    """It hands over other things than memory and pipes."""
    totals = told(Lie("hv", VCPU, what, -1, place))
    assert (totals.corruptions_detected, totals.failures) == (1, [])


@some_heavy("side, number", every(["hv", "vmm"], range(8)), lambda _, number: number in (0, VCPU))
def test_whatever_a_message_is_changed_to_the_pair_reports_it_or_runs(
    side: str, number: int
) -> None:
    """Each kind of lie at each place, in processes that run one pair after the other."""
    with closing(Warm()) as warm:
        for what, place in product(WAYS, range(3)):
            totals = told(Lie(side, number, what, -12, place), warm)
            assert totals.failures == []
            assert totals.corruptions_detected + totals.corruptions_harmless == 1


def test_another_child_of_the_process_is_left_alone() -> None:
    """The end of a pair neither waits for it nor takes its exit status."""
    with subprocess.Popen(
        [sys.executable, "-c", "input(); exit(7)"], stdin=subprocess.PIPE
    ) as other:
        totals = told(Lie("hv", VCPU, WAYS[0], -1, 0))
        assert (totals.corruptions_detected, totals.failures) == (1, [])
        other.communicate(b"\n")
    assert other.returncode == 7


@some_heavy("side, number", every(["hv", "vmm"], range(8)), lambda _, number: number in (0, 4, 7))
def test_no_lie_hangs_or_crashes_a_side(side: str, number: int) -> None:
    """Either side lies, at any time."""
    for what in ("/dev/zero", "more descriptors", "cut", "empty", "number"):
        totals = told(Lie(side, number, what, 3))
        assert totals.corruptions_detected + totals.corruptions_harmless == 1, totals.failures


def meddled(makes: Callable[[random.Random, Segments], Intrusion], times: int) -> Totals:
    """The results of several intrusions, in pairs of each policy and placement."""
    totals, plan = Totals(), Plan(7, Pins())
    while totals.corruptions < times:
        with own_streams():
            corruptions.run(plan, times - totals.corruptions, sys.maxsize, totals, makes, 0.0)
    return totals


def test_nothing_in_a_pipe_does_any_harm() -> None:
    """Junk, theft, and a pipe that is full and blocks: a byte only wakes."""
    totals = meddled(intrusions.pipe, 60)
    assert (totals.failures, totals.corruptions_harmless) == ([], 60)


def test_messages_of_a_third_party_are_found_out_or_harmless() -> None:
    """Requests that do not exist, replies to nothing, with descriptors or without."""
    totals = meddled(intrusions.message, 60)
    assert totals.failures == []
    assert totals.corruptions_detected + totals.corruptions_harmless == 60
    assert totals.corruptions_detected > 0


def test_a_proof_uses_every_slot_of_the_ring_again() -> None:
    """It is asked for when the guest has written few entries by itself, one at a time."""
    setup = replace(Plan(1, Pins(ring_pages=64)).short(strict=False), longest=1, start=0)
    with own_streams(), closing(Pair(setup)) as pair:
        assert pair.starts()
        assert pair.segments is not None
        number = pair.ask()
        while pair.proved != number:
            assert pair.hear(60.0), "no proof"
        slots = np.frombuffer(pair.segments.ring, KVM_COALESCED_MMIO, pair.segments.slots, HEADER)[
            "len"
        ].copy()
        exits = pair.segments.word(core.EXIT_SEQUENCE)
    assert np.all(slots > 0)
    assert exits >= 4
