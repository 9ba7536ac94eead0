"""A producer whose peer writes garbage into both indices while it runs.

With its private `last` and one checked read of `first` it stores nowhere but into the ring. Reading
the shared `last` twice, once to check it and once to use it, is CVE-2019-14821.
"""

from __future__ import annotations

from collections.abc import Sequence

from coalesced.tools.litmus.access import Access, Choice, Program, Script, only
from coalesced.tools.litmus.ring import FIRST, LAST
from coalesced.tools.litmus.steps import Orders

ENTRIES = 2
GARBAGE = 15
_SLOTS = 2  # the place of slot 0

Position = tuple[str, int, int, int]


def program(slots: int, orders: Orders) -> Program:
    """Two entries; the peer corrupts `last`, restores it, and corrupts `first`."""
    peer = [
        Access("", "store", LAST, f"last = {GARBAGE}: garbage", value=GARBAGE),
        Access("", "store", LAST, "last = 0", value=0),
        Access("", "store", FIRST, f"first = {GARBAGE}: garbage", value=GARBAGE),
    ]
    return Program(
        places=("first", "last", *(f"slot {i}" for i in range(slots))),
        memory=(0,) * (_SLOTS + slots),
        threads=(Producer(slots, orders), Script("hostile VMM", peer)),
        stuck="the producer does not end",
    )


class Producer:
    """ring_append with its checks; a wrong index that it detects ends it."""

    side = "guest (producer)"

    def __init__(self, slots: int, orders: Orders) -> None:
        self._slots, self._orders = slots, orders
        self.start: Position = ("append", 0, 0, 0)  # what is next, entries done, next, cached first

    def ahead(self, position: Position) -> Sequence[Choice[Position]]:
        at, n, slot, first = position
        if n == ENTRIES or at == "detected":
            return ()
        twice = self._orders.removed == "double-read"
        after = (slot + 1) % self._slots
        match at:
            case "append" if twice:
                return self._read_last("check", n, first, "last, to check it")
            case "use":
                return self._read_last("use", n, first, "last, to use it")
            case "append" if after == first:
                return self._read_first(n, slot, after)
            case "append" | "write":
                inside = slot < self._slots
                store = Access(
                    "P2",
                    "store",
                    _SLOTS + min(slot, self._slots - 1),
                    f"entry {n + 1}",
                    where=f"into slot {slot}",
                    value=n + 1,
                    wrong="" if inside else f"a store outside the ring, into slot {slot}",
                    address_from=LAST if twice else None,
                )
                return ((store, ("publish", n, after, first)),)
            case _:
                last = Access("P3", "store", LAST, f"last = {slot}", value=slot, order="release")
                return ((last, ("append", n + 1, slot, first)),)

    def _read_last(self, at: str, n: int, first: int, text: str) -> list[Choice[Position]]:
        choices: list[Choice[Position]] = []
        for value in (*range(self._slots), GARBAGE):
            good: Position = ("write", n, value, first) if at == "use" else ("use", n, 0, first)
            bad: Position = good if at == "use" else ("detected", n, 0, 0)
            load = Access("", "load", LAST, text, values=only(value), control=True)
            choices.append((load, good if value < self._slots else bad))
        return choices

    def _read_first(self, n: int, slot: int, after: int) -> list[Choice[Position]]:
        choices: list[Choice[Position]] = []
        for value in (*range(self._slots), GARBAGE):
            load = Access("P1", "load", FIRST, "first, checked", values=only(value),
                          order="acquire", control=True)  # fmt: skip
            fits = value < self._slots and value != after
            choices.append((load, ("write", n, slot, value) if fits else ("detected", n, 0, 0)))
        return choices
