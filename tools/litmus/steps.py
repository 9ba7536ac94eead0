"""The steps of rings, exit, posted write and ring lock, and the purpose of each order.

The comments in hv/core/ring.h, exit.h, posted.h, ring_lock.h, own_ring.h and shared_ring.h cite its
ids, and a test compares the headers with it. The predictions of `coalesced litmus` are derived from
it; what is explored are the headers themselves.
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
)


class Step(NamedTuple):
    """One access of the algorithm."""

    id: str
    side: str
    does: str
    access: str  # load, store, change (both at once), fence, or call: a system call
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

POSTED_STEPS = (
    Step("N1", "guest", "writes the posted sequence", "store", "release",
         "posted_sequence", "ORDER_RELEASE_POSTED", "N5"),
    Step("N2", "guest", "fence; its partner is S2", "fence", "seq_cst", "", "FENCE_POSTED"),
    Step("N3", "guest", "reads need-wakeup", "load", "relaxed", "peer_need_wakeup"),
    Step("N4", "guest", "writes a byte into the pipe (W4)", "call", "plain", "doorbell_ring("),
    Step("N5", "VMM", "reads the posted sequence", "load", "acquire",
         "posted_sequence", "ORDER_ACQUIRE_POSTED", "N1"),
)  # fmt: skip

LOCK_STEPS = (
    Step("L1", "next producer", "takes the lock", "change", "acquire",
         "&l->state", "ORDER_ACQUIRE_LOCK", "L2"),
    Step("L2", "producer", "gives it back", "change", "release",
         "&l->state", "ORDER_RELEASE_LOCK", "L1"),
)  # fmt: skip

OWNER_STEPS = (
    Step("O1", "side that leaves", "writes that it has closed its end", "store", "release",
         "&own->owner", "ORDER_RELEASE_OWNER", "O2"),
    Step("O2", "other side", "reads who is there, before its index", "load", "acquire",
         "&peer->owner", "ORDER_ACQUIRE_OWNER", "O1"),
    Step("O3", "next owner", "takes the place of one that has left (O1)", "change", "acquire",
         "&own->owner", "ORDER_TAKE_OWNER"),
)  # fmt: skip

OWN_STEPS = (
    Step("D1", "guest", "fence", "fence", "seq_cst", "", "FENCE_OWN_RING", "A3"),
    Step("D2", "guest", "reads whether a signal is under way", "load", "relaxed", "&w->signalled"),
    Step("D3", "guest", "says that one is", "store", "relaxed", "&w->signalled"),
    Step("D4", "guest", "writes the ring's descriptor", "call", "plain", ""),
    Step("A1", "VMM", "empties the descriptor", "call", "plain", ""),
    Step("A2", "VMM", "says that no signal is under way", "store", "relaxed", "&w->signalled"),
    Step("A3", "VMM", "fence", "fence", "seq_cst", "", "FENCE_OWN_RING", "D1"),
)  # fmt: skip

STEPS = {
    step.id: step
    for steps in (
        RING_STEPS,
        EXIT_STEPS,
        WAKEUP_STEPS,
        POSTED_STEPS,
        LOCK_STEPS,
        OWNER_STEPS,
        OWN_STEPS,
    )
    for step in steps
}


class Barrier(NamedTuple):
    """An order or a check that can be removed, and its purpose."""

    protocol: str  # one of PROTOCOLS: which program shows it
    steps: tuple[str, ...]  # whose order goes; none: the algorithm itself is another
    macro: str  # what the program is compiled with instead, and
    instead: str
    keeps: frozenset[str]  # the pairs of accesses that it keeps in order
    without: str
    slots: int = 0  # only in rings of at least this many slots, when one is used again; 0: in any

    @property
    def define(self) -> str:
        """The macro that removes it, as the compiler's -D takes it."""
        return f"{self.macro}={self.instead}"


RELAXED = "memory_order_relaxed"


def _order(protocol: str, step: str, keeps: set[str], without: str, slots: int = 0) -> Barrier:
    macro = STEPS[step].macro
    return Barrier(protocol, (step,), macro, RELAXED, frozenset(keeps), without, slots)


def _fence(steps: tuple[str, ...], macro: str, protocol: str = "wakeup") -> Barrier:
    keeps = frozenset({STORE_LOAD})
    return Barrier(protocol, steps, macro, RELAXED, keeps, "a wake-up is lost")


def _algorithm(protocol: str, header: str, without: str) -> Barrier:
    return Barrier(protocol, (), "BROKEN_RING", f'"{header}"', frozenset(), without)


def _rule(number: int, without: str) -> Barrier:
    return Barrier("rings", (), f"RULE_{number}", "0", frozenset(), without)


BARRIERS = {
    "release-last": _order(
        "ring", "P3", {STORE_STORE}, "the consumer sees a slot before its bytes"
    ),
    "acquire-last": _order(
        "ring", "C1", {LOAD_LOAD}, "the consumer has read the slot before its bytes came"
    ),
    "release-first": _order(
        "ring", "C3", {LOAD_STORE}, "a slot is handed back before it is read", slots=3
    ),
    "acquire-first": _order(
        "ring", "P1", {BRANCH_STORE}, "a slot is overwritten while it is read", slots=2
    ),
    "full-check-2009": _algorithm(
        "ring", "full_check_2009.h", "a full ring is taken for one with room"
    ),
    "double-read": _algorithm("hostile", "double_read.h", "the index used is not the one checked"),
    "release-exit": _order("exit", "G2", {STORE_STORE}, "the VMM handles a half-written exit"),
    "acquire-exit": _order(
        "exit", "V1", {LOAD_LOAD, BRANCH_STORE}, "the VMM has read the payload before"
    ),
    "release-resume": _order(
        "exit", "V4", {STORE_STORE, LOAD_STORE}, "the guest reads the result before"
    ),
    "acquire-resume": _order(
        "exit", "G3", {LOAD_LOAD, BRANCH_STORE}, "the guest has read the result before"
    ),
    "wakeup-fence": _fence(("W2", "S2"), "FENCE_WAKEUP"),
    "waker-fence": _fence(("W2",), "WAKER_FENCE"),
    "sleeper-fence": _fence(("S2",), "SLEEPER_FENCE"),
    "release-posted": _order(
        "posted", "N1", {STORE_STORE}, "the VMM sees the announcement before its entry"
    ),
    "acquire-posted": _order(
        "posted", "N5", {LOAD_LOAD}, "the VMM has read the ring before the announcement"
    ),
    "release-lock": _order(
        "lock", "L2", {STORE_STORE}, "the next holder writes into the slot that was used last"
    ),
    "acquire-lock": _order(
        "lock", "L1", {LOAD_LOAD}, "a holder continues from an index that is older than the lock"
    ),
    "release-owner": _order(
        "shared", "O1", {STORE_STORE}, "the producer is seen to be gone before its last entry"
    ),
    "acquire-owner": _order(
        "shared", "O2", {LOAD_LOAD}, "the index is older than the end that was closed behind it"
    ),
    "take-owner": _order(
        "takeover", "O3", {LOAD_LOAD}, "the next consumer gets an entry a second time"
    ),
    "posted-fence": _fence(("N2",), "FENCE_POSTED", "posted"),
    "own-ring-fence": _fence(("D1", "A3"), "FENCE_OWN_RING", "own"),
    "announce-fence": _fence(("D1",), "ANNOUNCE_FENCE", "own"),
    "answer-fence": _fence(("A3",), "ANSWER_FENCE", "own"),
    "rule-12": _rule(
        12, "another vCPU's exit comes before what was queued ahead of a store to RAM"
    ),
    "rule-13": _rule(13, "a device handles an exit before the entries of its own ring"),
}

# The programs, with their threads.
PROTOCOLS = {
    "ring": ("guest (producer)", "VMM (consumer)"),
    "hostile": ("guest (producer)", "the peer", "VMM (consumer)"),
    "exit": ("guest", "VMM"),
    "wakeup": ("guest (waker)", "VMM (sleeper)"),
    "posted": ("guest", "VMM"),
    "shared": ("producer", "consumer"),
    "takeover": ("consumer", "next consumer"),
    "lock": ("vCPU 0 (producer)", "vCPU 1 (producer)", "VMM (consumer)"),
    "own": ("guest", "VMM"),
    "rings": ("vCPU 0", "vCPU 1", "VMM"),
}


def needed(removed: str, model: str, slots: int, entries: int) -> bool:
    """Whether an execution goes wrong without the barrier, in this model and ring: the prediction.

    A barrier is needed where the model does not always keep one of its pairs in order.
    """
    barrier = BARRIERS[removed]
    if removed in ("double-read", "rule-12", "rule-13"):
        return True
    if removed == "full-check-2009":
        return overruns_2009(slots) and entries > slots
    return shows(removed, slots, entries) and not barrier.keeps <= KEEPS[model]


def shows(removed: str, slots: int, entries: int) -> bool:
    """Whether the ring is large enough, and filled often enough, to show a barrier's purpose."""
    barrier = BARRIERS[removed]
    return not barrier.slots or (slots >= barrier.slots and entries > slots)


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
