"""An exit and its answer, as in hv/core/exit.h: two rounds, an entry in the ring before each.

The VMM must see the whole payload and the entry that went before it; the guest must see this
round's result, and not write the next payload while this one is read. The result of a load lies
where the data of a store lies, as in kvm_run.
"""

from __future__ import annotations

from coalesced.tools.litmus.access import Access, Program, Script, only
from coalesced.tools.litmus.steps import Orders

ROUNDS = 2
EXIT, RESUME, ADDRESS, DATA, LAST, SLOTS = range(6)
_RESULT = 8  # result n is this many more than n, so that it is no payload


def program(orders: Orders) -> Program:
    """Two exits with their answers, without what `orders` says is removed."""
    slots = [f"slot {i}" for i in range(ROUNDS)]
    return Program(
        places=("exit sequence", "resume sequence", "address", "data", "last", *slots),
        memory=(0,) * (SLOTS + ROUNDS),
        threads=(_guest(orders), _vmm(orders)),
        stuck="neither side can continue",
        shown=("", "", "that of exit {}", "", "", *(["entry {}"] * ROUNDS)),
    )


def _guest(orders: Orders) -> Script:
    accesses: list[Access] = []
    for n in range(1, ROUNDS + 1):
        accesses += [
            Access("P2", "store", SLOTS + n - 1, f"entry {n}", value=n),
            Access("P3", "store", LAST, f"last = {n}", value=n, order="release"),
            Access("G1", "store", ADDRESS, f"address of exit {n}", value=n),
            Access("G1", "store", DATA, f"data of exit {n}", value=n),
            Access("G2", "store", EXIT, f"exit sequence = {n}", value=n, order=orders.of("G2")),
            Access("G3", "load", RESUME, "resume sequence", values=only(n), control=True,
                   order=orders.of("G3")),
            Access("G4", "load", DATA, f"result of exit {n}", legal=n + _RESULT,
                   wrong=f"the guest takes something else for the result of exit {n}"),
        ]  # fmt: skip
    return Script("guest", accesses)


def _vmm(orders: Orders) -> Script:
    accesses: list[Access] = []
    for n in range(1, ROUNDS + 1):
        half = f"the VMM handles exit {n} with something else for its payload"
        accesses += [
            Access("V1", "load", EXIT, "exit sequence", values=only(n), control=True,
                   order=orders.of("V1")),
            Access("C1", "load", LAST, "last", legal=n, order="acquire", control=True,
                   wrong=f"the VMM handles exit {n} before the entry that went before it"),
            Access("C2", "load", SLOTS + n - 1, f"entry {n}", legal=n,
                   wrong=f"entry {n} is not what was written"),
            Access("V2", "load", ADDRESS, f"address of exit {n}", legal=n, wrong=half),
            Access("V2", "load", DATA, f"data of exit {n}", legal=n, wrong=half),
            Access("V3", "store", DATA, f"result of exit {n}", value=n + _RESULT),
            Access("V4", "store", RESUME, f"resume sequence = {n}", value=n,
                   order=orders.of("V4")),
        ]  # fmt: skip
    return Script("VMM", accesses)
