"""The steps of ring and exit, and the purpose of each ordered one.

The comments in hv/core/ring.h and exit.h cite its ids, the explorer takes its orders from it, and a
test compares the headers with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coalesced.tools.litmus.models import (
    BRANCH_STORE,
    KEEPS,
    LOAD_LOAD,
    LOAD_STORE,
    STORE_LOAD,
    STORE_STORE,
    Pair,
)


class Step(NamedTuple):
    """One access of the algorithm."""

    id: str
    side: str
    does: str
    access: str  # load, store, fence, or call: a system call
    order: str  # as in C11's memory_order_; "plain" for what is no atomic access
    code: str  # what the statement in the header names; "" where the header's callers do it
    macro: str = ""  # the name of its order in the header
    partner: str = ""  # the step of the other side that it pairs with


RING_STEPS = (
    Step("P1", "producer", "reads `first`, when its copy says full", "load", "acquire",
         "ring->first", "ORDER_ACQUIRE_FIRST", "C3"),
    Step("P2", "producer", "writes the entry's words", "store", "relaxed", "slot->word"),
    Step("P3", "producer", "writes `last`", "store", "release",
         "ring->last", "ORDER_RELEASE_LAST", "C1"),
    Step("C1", "consumer", "reads `last`", "load", "acquire",
         "ring->last", "ORDER_ACQUIRE_LAST", "P3"),
    Step("C2", "consumer", "copies the entries' words out", "load", "relaxed", "slot->word"),
    Step("C3", "consumer", "writes `first`", "store", "release",
         "ring->first", "ORDER_RELEASE_FIRST", "P1"),
)  # fmt: skip

EXIT_STEPS = (
    Step("G1", "guest", "writes the exit's payload", "store", "plain", ""),
    Step("G2", "guest", "writes the exit sequence", "store", "release",
         "exit_sequence", "ORDER_RELEASE_EXIT", "V1"),
    Step("G3", "guest", "reads the resume sequence", "load", "acquire",
         "resume_sequence", "ORDER_ACQUIRE_RESUME", "V4"),
    Step("G4", "guest", "reads the result of its load", "load", "plain", ""),
    Step("V1", "VMM", "reads the exit sequence", "load", "acquire",
         "exit_sequence", "ORDER_ACQUIRE_EXIT", "G2"),
    Step("V2", "VMM", "reads the payload", "load", "plain", ""),
    Step("V3", "VMM", "writes the result", "store", "plain", ""),
    Step("V4", "VMM", "writes the resume sequence", "store", "release",
         "resume_sequence", "ORDER_RELEASE_RESUME", "G3"),
)  # fmt: skip

WAKEUP_STEPS = (
    Step("W1", "waker", "writes the word (G2 or V4)", "store", "release", ""),
    Step("W2", "waker", "fence", "fence", "seq_cst", "", "FENCE_WAKEUP", "S2"),
    Step("W3", "waker", "reads need-wakeup", "load", "relaxed", "peer_need_wakeup"),
    Step("W4", "waker", "writes a byte into the pipe", "call", "plain", "write(b->wake_fd"),
    Step("S1", "sleeper", "sets need-wakeup", "store", "relaxed", "own_need_wakeup"),
    Step("S2", "sleeper", "fence", "fence", "seq_cst", "", "FENCE_WAKEUP", "W2"),
    Step("S3", "sleeper", "looks at the word once more", "load", "relaxed", ""),
    Step("S4", "sleeper", "sleeps until the pipe has a byte", "call", "plain", "ppoll("),
    Step("S5", "sleeper", "clears need-wakeup", "store", "relaxed", "own_need_wakeup"),
    Step("S6", "sleeper", "takes the bytes out of the pipe", "call", "plain", "read(b->sleep_fd"),
)  # fmt: skip

STEPS = {step.id: step for step in (*RING_STEPS, *EXIT_STEPS, *WAKEUP_STEPS)}


class Barrier(NamedTuple):
    """An order or a check that can be removed, and its purpose."""

    protocol: str  # ring, hostile, exit or wakeup: which program shows it
    steps: tuple[str, ...]  # whose order goes; none: the algorithm itself is another
    keeps: frozenset[Pair]  # the pairs of accesses that it keeps in order
    without: str
    reuse: bool = False  # it shows only when a slot is used for the second time


BARRIERS = {
    "release-last": Barrier(
        "ring", ("P3",), frozenset({STORE_STORE}), "the consumer sees a slot before its bytes"
    ),
    "acquire-last": Barrier(
        "ring",
        ("C1",),
        frozenset({LOAD_LOAD}),
        "the consumer has read the slot before its bytes came",
    ),
    "release-first": Barrier(
        "ring", ("C3",), frozenset({LOAD_STORE}), "a slot is handed back before it is read", True
    ),
    "acquire-first": Barrier(
        "ring", ("P1",), frozenset({BRANCH_STORE}), "a slot is overwritten while it is read", True
    ),
    "full-check-2009": Barrier("ring", (), frozenset(), "a full ring is taken for one with room"),
    "double-read": Barrier("hostile", (), frozenset(), "the index used is not the one checked"),
    "release-exit": Barrier(
        "exit", ("G2",), frozenset({STORE_STORE}), "the VMM handles a half-written exit"
    ),
    "acquire-exit": Barrier(
        "exit", ("V1",), frozenset({LOAD_LOAD, BRANCH_STORE}), "the VMM has read the payload before"
    ),
    "release-resume": Barrier(
        "exit", ("V4",), frozenset({STORE_STORE, LOAD_STORE}), "the guest reads the result before"
    ),
    "acquire-resume": Barrier(
        "exit",
        ("G3",),
        frozenset({LOAD_LOAD, BRANCH_STORE}),
        "the guest has read the result before",
    ),
    "wakeup-fence": Barrier("wakeup", ("W2", "S2"), frozenset({STORE_LOAD}), "a wake-up is lost"),
    "waker-fence": Barrier("wakeup", ("W2",), frozenset({STORE_LOAD}), "a wake-up is lost"),
    "sleeper-fence": Barrier("wakeup", ("S2",), frozenset({STORE_LOAD}), "a wake-up is lost"),
}

PROTOCOLS = ("ring", "hostile", "exit", "wakeup")


class Orders(NamedTuple):
    """The orders of the steps, with one barrier removed or none."""

    removed: str | None = None

    def of(self, step: str) -> str:
        """acquire, release or relaxed: the order of a step."""
        return "relaxed" if self._without(step) else STEPS[step].order

    def fence(self, step: str) -> bool:
        """Whether this fence is present."""
        return not self._without(step)

    def _without(self, step: str) -> bool:
        return self.removed is not None and step in BARRIERS[self.removed].steps


def needed(removed: str, model: str, slots: int, entries: int) -> bool:
    """Whether the table predicts an illegal execution without the barrier, in this model and ring.

    A barrier is needed where the model does not always keep one of its pairs in order.
    """
    barrier = BARRIERS[removed]
    if removed == "double-read":
        return True
    if removed == "full-check-2009":
        return overruns_2009(slots) and entries > slots
    if barrier.reuse and entries <= slots:
        return False
    return not barrier.keeps <= KEEPS[model]


def overruns_2009(slots: int) -> bool:
    """Whether the full check of 2009 can take a full ring of `slots` slots for one with room.

    It is off by 2**32 modulo `slots` while first <= last, and takes `stop` entries for a full ring.
    The ring must get past that number while first > last, where the check is right, and have room
    left for first to come round to slot 0.
    """
    stop = 2**32 % slots - 1
    return 1 <= stop <= slots - 3


def overrunning_sizes(slots: int) -> Iterator[int]:
    """The ring sizes from `slots` on in which the check of 2009 overruns."""
    while True:
        if overruns_2009(slots):
            yield slots
        slots += 1
