"""Pairs that are not strict may share their processes, one after the other."""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from coalesced.tools.stress import corruptions, intrusions
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.totals import Totals
from helpers.own_streams import own_streams


@pytest.fixture
def warm() -> Iterator[Warm]:
    with closing(Warm()) as processes:
        yield processes


def spoil(pair: Pair) -> None:
    """Write indices that are no slots until a side finds them; each corrects its own."""
    assert pair.segments is not None
    while not pair.last:
        struct.pack_into("<II", pair.segments.ring, 0, 0xFFFF_FFFF, 0xFFFF_FFFF)
        assert pair.hear(0.01) is not None
    assert pair.last["type"] in ("ProtocolError", "PeerDied")


def machines(warm: Warm, plan: Plan, pairs: int) -> list[int]:
    """Spoil so many pairs one after the other: how many each machine ran."""
    counts: list[int] = []
    for _ in range(pairs):
        with own_streams():
            pair = Pair(warm.fit(plan.short(strict=False)), warm)
        assert pair.starts(), (pair.last, pair.errors())
        counts = [*counts[:-1], counts[-1] + 1] if pair.setup.again else [*counts, 1]
        number = pair.ask()
        while pair.proved != number:
            assert pair.hear(60.0), "no proof"
        spoil(pair)
        pair.close()
    return counts


def cut(warm: Warm, kill: bool = False) -> tuple[int, list[int], dict[str, object]]:
    """Run a pair until its ring is cut off, or its guest killed: the process of the VMM, those of
    its guests, and the last message."""
    with own_streams():  # not in the fixture: pytest changes them again behind it
        pair = Pair(Plan(1, Pins()).short(strict=False), warm)
    assert pair.starts(), (pair.last, pair.errors())
    with open(f"/proc/{pair.pid}/task/{pair.pid}/children") as children:
        guests = [int(pid) for pid in children.read().split()]
    assert pair.segments is not None
    if kill:
        pair.signal("hv", signal.SIGKILL)
    else:
        os.ftruncate(pair.segments.ring_fd, 0)
    assert pair.wait("last")
    pair.close()
    return pair.pid, guests, pair.last


def test_a_pair_is_run_by_the_processes_of_the_one_before(warm: Warm) -> None:
    """Both sides notice the truncation: a late signal to the guest must not end the next one."""
    ran = [cut(warm) for _ in range(8)]
    assert {last["type"] for _, _, last in ran} <= {"SegmentError", "PeerDied"}
    assert {last["guest_status"] for _, _, last in ran} <= {0, 1}
    assert len({vmm for vmm, _, _ in ran}) == 1
    assert len({tuple(guests) for _, guests, _ in ran}) == 1


def test_after_the_guest_process_was_killed_the_next_pair_gets_another(warm: Warm) -> None:
    vmm, guests, last = cut(warm, kill=True)
    assert last["guest_status"] == -signal.SIGKILL
    same_vmm, others, _ = cut(warm)
    assert same_vmm == vmm
    assert len(others) == 1
    assert others != guests


def test_a_pair_that_still_runs_is_ended_without_its_processes(warm: Warm) -> None:
    """A corruption that did no harm costs no new processes."""
    with own_streams():
        pair = Pair(Plan(1, Pins()).short(strict=False), warm)
    assert pair.starts(), (pair.last, pair.errors())
    pair.finish()
    assert pair.last["kind"] == "error"
    pair.close()
    assert cut(warm)[0] == pair.pid


def test_pairs_that_follow_each_other_have_one_machine() -> None:
    """Each proves that it runs; after 20 the machine is another one, on a busy CPU earlier."""
    for _ in range(10):
        with closing(Warm()) as warm:
            counts = machines(warm, Plan(1, Pins()), 30)
        if max(counts) >= 20:
            break
    assert max(counts) == 20
    assert len(counts) >= 2


def test_a_pair_never_gets_a_machine_whose_segment_was_cut(warm: Warm) -> None:
    cut(warm)
    assert not warm.fit(Plan(1, Pins()).short(strict=False)).again


def test_messages_of_a_third_party_are_not_read_by_the_next_pair(warm: Warm) -> None:
    """They lie in the control socket of a machine that is used again."""
    totals, plan = Totals(), Plan(1, Pins())
    # Only a side that waits for a message finds one, which few do.
    while totals.corruptions < 40 or (
        not totals.corruptions_detected and totals.corruptions < 4000
    ):
        with own_streams():
            corruptions.run(plan, 3, sys.maxsize, totals, intrusions.message, 0.0, warm)
    assert totals.failures == []
    assert totals.corruptions_detected > 0
