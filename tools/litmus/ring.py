"""The ring of hv/core/ring.h as two threads: the accesses of producer and consumer.

The producer publishes each entry or any number of them at once; the write that finds the ring full
exits, as in the product: everything is published, the VMM drains the ring and takes the write
itself. The consumer copies out and gives back any number of the entries it finds. An entry has two
words: one whose checks decide how far the batch goes, and one of data. Each entry's words hold its
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coalesced.tools.litmus.access import Access, Choice, Program, only
from coalesced.tools.litmus.steps import Orders

FIRST, LAST, EXIT, RESUME, SLOTS = 0, 1, 2, 3, 4
WORDS = ("address and len", "data")

Position = tuple[str | int, int, int, int, int]


class Bounds(NamedTuple):
    """The size of what is explored."""

    slots: int
    entries: int
    words: int = 2  # of an entry: 1 leaves out the data


def program(bounds: Bounds, orders: Orders) -> Program:
    """The ring, with what `orders` says is removed; it starts empty at slot 0.

    With the check of 2009 it starts at the last slot: from others it refuses entries, which is
    wrong, but loses none.
    """
    words = WORDS[: bounds.words]
    slots = [f"slot {i}, {word}" for i in range(bounds.slots) for word in words]
    start = bounds.slots - 1 if orders.removed == "full-check-2009" else 0
    return Program(
        places=("first", "last", "exit sequence", "resume sequence", *slots),
        memory=(start, start, 0, 0, *([0] * len(slots))),
        threads=(Producer(bounds, orders, start), Consumer(bounds, orders, start)),
        stuck="entries are lost: the ring looks empty to the consumer",
        shown=("", "", "", "", *(["entry {}"] * len(slots))),
    )


def has_room_2009(first: int, last: int, slots: int) -> bool:
    """KVM's check from 2009 to 6.12, on unsigned 32-bit numbers: 2**32 is no multiple of 170."""
    return (first - last - 1) % 2**32 % slots != 0


class Producer:
    """ring_append and ring_publish, and the exit of a write that does not fit."""

    side = "guest (producer)"

    def __init__(self, bounds: Bounds, orders: Orders, start: int) -> None:
        self._bounds, self._orders = bounds, orders
        # What it does next, entries done, next, published, the cached first.
        self.start: Position = ("append", 0, start, start, start)

    def ahead(self, position: Position) -> Sequence[Choice[Position]]:
        at, n, slot, published, first = position
        slots = self._bounds.slots
        after = (slot + 1) % slots
        choices: Sequence[Choice[Position]]
        match at:
            case "append" if n == self._bounds.entries:
                choices = ()
            case "append":
                choices = self._append(n, slot, published, first)
            case 0 | 1:
                access = Access(
                    "P2",
                    "store",
                    SLOTS + slot * self._bounds.words + at,
                    f"entry {n + 1}, {WORDS[at]}",
                    where=f"into slot {slot}",
                    value=n + 1,
                )
                done = at + 1 == self._bounds.words
                written: Position = ("publish", n + 1, after, published, first)
                choices = ((access, written if done else (at + 1, n, slot, published, first)),)
            case "publish":
                shown = self._publish(n, slot, first, "append")
                wait = (None, ("append", n, slot, published, first))
                choices = shown if n == self._bounds.entries else (*shown, wait)
            case "full" if published != slot:
                choices = self._publish(n, slot, first, "full")
            case "full":
                access = Access(
                    "G2",
                    "store",
                    EXIT,
                    f"exit of write {n + 1}, which does not fit",
                    value=n + 1,
                    order=self._orders.of("G2"),
                )
                choices = ((access, ("resume", n, slot, published, first)),)
            case _:
                access = Access(
                    "G3",
                    "load",
                    RESUME,
                    f"the exit of write {n + 1} is handled",
                    values=only(n + 1),
                    order=self._orders.of("G3"),
                    control=True,
                )
                choices = ((access, ("append", n + 1, slot, published, first)),)
        return choices

    def _publish(self, n: int, slot: int, first: int, then: str) -> tuple[Choice[Position], ...]:
        access = Access(
            "P3",
            "store",
            LAST,
            f"last = {slot}",
            value=slot,
            order=self._orders.of("P3"),
        )
        return ((access, (then, n, slot, slot, first)),)

    def _append(self, n: int, slot: int, published: int, first: int) -> Sequence[Choice[Position]]:
        """Load `first` if the cached copy says full; KVM has no copy, and loads it each time."""
        slots = self._bounds.slots
        after = (slot + 1) % slots
        every_time = self._orders.removed == "full-check-2009"
        if after != first and not every_time:
            return ((None, (0, n, slot, published, first)),)
        span = slots if every_time else (published - first) % slots + 1
        choices: list[Choice[Position]] = []
        for value in ((first + i) % slots for i in range(span)):
            room = has_room_2009(value, slot, slots) if every_time else value != after
            access = Access(
                "P1",
                "load",
                FIRST,
                "first: room" if room else "first: full",
                values=only(value),
                order=self._orders.of("P1"),
                control=True,
            )
            # The check of 2009 keeps no copy: all its positions have the same one.
            kept = first if every_time else value
            choices.append((access, (0 if room else "full", n, slot, published, kept)))
        return choices


class Consumer:
    """ring_peek and ring_commit, and the handling of an exit."""

    side = "VMM (consumer)"

    def __init__(self, bounds: Bounds, orders: Orders, start: int) -> None:
        self._bounds, self._orders = bounds, orders
        # What it does next, entries done, next, and of a batch: its end and what follows it.
        self.start: Position = ("look", 0, start, 0, 0)

    def ahead(self, position: Position) -> Sequence[Choice[Position]]:
        at, n, slot, count, taken = position
        match at:
            case "look" if n == self._bounds.entries:
                return ()
            case "look":
                return (*self._batches(n, slot), *self._exits(n, slot))
            case "drain" | "batch" if taken < count * self._bounds.words:
                return (self._read(str(at), n, slot, count, taken),)
            case "drain" | "batch":
                return self._commit(str(at), n, slot, count)
            case _:
                access = Access(
                    "V4",
                    "store",
                    RESUME,
                    f"write {n + 1} is handled",
                    value=n + 1,
                    order=self._orders.of("V4"),
                )
                return ((access, ("look", n + 1, slot, 0, 0)),)

    def _batches(self, n: int, slot: int) -> list[Choice[Position]]:
        """Take any number of the entries that `last` counts in."""
        slots = self._bounds.slots
        choices: list[Choice[Position]] = []
        for count in range(1, min(slots - 1, self._bounds.entries - n) + 1):
            access = Access(
                "C1",
                "load",
                LAST,
                f"last: there are {count}" if count > 1 else "last: there is one",
                values=only(*((slot + i) % slots for i in range(count, slots))),
                order=self._orders.of("C1"),
                control=True,
            )
            choices.append((access, ("batch", n, slot, count, 0)))
        return choices

    def _exits(self, n: int, slot: int) -> list[Choice[Position]]:
        """The exit of write m: drain first; entries up to m - 1 must all be there."""
        slots = self._bounds.slots
        choices: list[Choice[Position]] = []
        for m in range(n + 1, min(n + slots, self._bounds.entries) + 1):
            access = Access(
                "V1",
                "load",
                EXIT,
                f"the exit of write {m}",
                values=only(m),
                order=self._orders.of("V1"),
                control=True,
            )
            choices.append((access, ("drain", n, slot, m - 1 - n, -1)))
        return choices

    def _read(self, at: str, n: int, slot: int, count: int, taken: int) -> Choice[Position]:
        slots = self._bounds.slots
        if taken < 0:
            access = Access(
                "C1",
                "load",
                LAST,
                f"last: there are {count}",
                legal=(slot + count) % slots,
                wrong="the VMM handles an exit before the entries that went before it",
                order=self._orders.of("C1"),
                control=True,
            )
        else:
            entry, word = divmod(taken, self._bounds.words)
            place = (slot + entry) % slots
            access = Access(
                "C2",
                "load",
                SLOTS + place * self._bounds.words + word,
                f"entry {n + entry + 1}, {WORDS[word]}",
                where=f"out of slot {place}",
                legal=n + entry + 1,
                wrong=f"entry {n + entry + 1} is not what was written",
                control=word == 0,
            )
        return (access, (at, n, slot, count, taken + 1))

    def _commit(self, at: str, n: int, slot: int, count: int) -> tuple[Choice[Position], ...]:
        slot = (slot + count) % self._bounds.slots
        after: Position = ("look" if at == "batch" else "handle", n + count, slot, 0, 0)
        if count == 0:
            return ((None, after),)
        access = Access(
            "C3",
            "store",
            FIRST,
            f"first = {slot}",
            value=slot,
            order=self._orders.of("C3"),
        )
        return ((access, after),)
