"""The memory models: which of two accesses of one thread may take place first.

There is one memory. An access takes place at one moment and for all at once; what a model permits
is that a thread's accesses take place in another order than that of its program. Two threads cannot
tell this from copies of memory that agree late.

- `sc`: program order.
- `tso`: x86. A load may take place before an earlier store: the store still lies in the store
  buffer. A load of the same place finds the value there. A seq_cst fence empties the buffer.
- `weak`: C11's relaxed accesses as far as reordering can explain them. Of two accesses to different
  places either may be first, unless an acquire (nothing after it before it), a release (nothing
  before it after it), a seq_cst fence or an address or data dependency is between them. Accesses to
  one place keep their order, and a load finds its own thread's earlier store. A branch orders
  nothing: a thread may load *and store* on a guess of what an earlier load will find; an execution
  counts if all its guesses came true. A store's value is never guessed, so nothing comes out of
  thin air.
- `arm`: weak, but a store waits for the loads on which an earlier branch depends, as on ARM.

A system call is not made on a guess, and nothing after it takes place before it; stores before it
may be late.
"""

from __future__ import annotations

from collections.abc import Sequence

from coalesced.tools.litmus.access import FENCE, Access

DEFAULT = ("sc", "tso", "weak")

Pair = tuple[str, str]  # (kind of the earlier access, kind of the later)

LOAD_LOAD: Pair = ("load", "load")
LOAD_STORE: Pair = ("load", "store")
STORE_LOAD: Pair = ("store", "load")
STORE_STORE: Pair = ("store", "store")
BRANCH_STORE: Pair = (
    "branch",
    "store",
)  # a load that a branch depends on, a store after the branch

# The pairs that a model always keeps in order.
KEEPS: dict[str, frozenset[Pair]] = {
    "sc": frozenset({LOAD_LOAD, LOAD_STORE, STORE_LOAD, STORE_STORE, BRANCH_STORE}),
    "tso": frozenset({LOAD_LOAD, LOAD_STORE, STORE_STORE, BRANCH_STORE}),
    "weak": frozenset(),
    "arm": frozenset({BRANCH_STORE}),
}


def may_overtake(model: str, late: Access, early: Access) -> bool:
    """Whether `late` may take place before `early`, which precedes it in their thread's program."""
    keeps = KEEPS[model]
    if FENCE in (early, late) or (early.kind, late.kind) in keeps:
        return False
    if BRANCH_STORE in keeps and early.control and late.kind == "store":
        return False
    if early.place == late.place:  # a load finds the value of its own store, wherever that is
        return STORE_LOAD not in keeps and (early.kind, late.kind) == STORE_LOAD
    if early.order == "acquire" or late.order == "release" or early.call:
        return False
    return not (late.call and early.guess) and late.address_from != early.place


def overtakes(model: str, late: Access, waiting: Sequence[Access]) -> bool:
    """Whether `late` may take place before all of `waiting`, which precede it in its program."""
    return all(may_overtake(model, late, early) for early in waiting)


def forwarded(late: Access, waiting: Sequence[Access]) -> int | None:
    """The value that a load finds in its own thread's store buffer; None without one."""
    stores = [a.value for a in waiting if a.kind == "store" and a.place == late.place]
    return stores[-1] if late.kind == "load" and stores else None
