"""The cases of `coalesced litmus`: a program with one barrier removed or none, under a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coalesced.tools.litmus import exits, hostile, ring, steps, wakeup
from coalesced.tools.litmus.access import Program
from coalesced.tools.litmus.explore import Result, explore
from coalesced.tools.litmus.models import KEEPS
from coalesced.tools.litmus.witness import columns, one_line


class Case(NamedTuple):
    """What is explored."""

    protocol: str
    removed: str | None
    model: str
    slots: int
    entries: int

    def program(self) -> Program:
        """The two threads."""
        orders = steps.Orders(self.removed)
        match self.protocol:
            case "ring":
                words = 1 if self.removed == "full-check-2009" else len(ring.WORDS)
                return ring.program(ring.Bounds(self.slots, self.entries, words), orders)
            case "hostile":
                return hostile.program(self.slots, orders)
            case "exit":
                return exits.program(orders)
            case _:
                return wakeup.program(orders)

    def expected(self) -> bool:
        """Does the table of steps predict that nothing goes wrong?"""
        if self.removed is None:
            return True
        return not steps.needed(self.removed, self.model, self.slots, self.entries)

    def why(self) -> str:
        """Why the table predicts so."""
        if self.removed is None:
            return "every barrier is there"
        barrier = steps.BARRIERS[self.removed]
        if not self.expected():
            return barrier.without
        if self.removed == "full-check-2009":
            return f"with {self.slots} slots and {self.entries} entries the check cannot overrun"
        if barrier.keeps <= KEEPS[self.model]:
            kept = ", ".join(sorted("-".join(pair) for pair in barrier.keeps))
            return f"{self.model} keeps {kept} in order of itself"
        return f"{self.entries} entries in {self.slots} slots use no slot twice"


class Outcome(NamedTuple):
    """What came of a case."""

    case: Case
    result: Result

    @property
    def ok(self) -> bool:
        """Is no execution illegal?"""
        return self.result.illegal == 0

    @property
    def as_expected(self) -> bool:
        """Is it what the table of steps predicts?"""
        return self.ok == self.case.expected()

    def facts(self) -> dict[str, object]:
        """For --json."""
        case, result = self.case, self.result
        program = case.program()
        return {
            "removed": case.removed,
            "model": case.model,
            "protocol": case.protocol,
            "slots": case.slots,
            "entries": case.entries,
            "states": result.states,
            "executions": result.executions,
            "illegal": result.illegal,
            "ok": self.ok,
            "expected": case.expected(),
            "why": case.why(),
            "wrong": result.wrong,
            "witness": [one_line(program, e) for e in result.witness] if result.wrong else None,
        }

    def shown(self) -> str:
        """The witness as two columns."""
        return columns(self.case.program(), self.result)

    @classmethod
    def of(cls, case: Case) -> Outcome:
        """Explore it."""
        return cls(case, explore(case.program(), case.model))


def cases(slots: int, entries: int, models: list[str], removed: str | None) -> Iterator[Case]:
    """The cases for these options; no `removed`: the whole ones, and each barrier in turn.

    The check of 2009 is right, or refuses everything, in rings of up to 5 slots: that case gets the
    least size from `slots` on that shows it, and the entries that it takes.
    """
    whole = [] if removed else [(protocol, None) for protocol in steps.PROTOCOLS]
    broken = [
        (barrier.protocol, name)
        for name, barrier in steps.BARRIERS.items()
        if removed in (None, name)
    ]
    for protocol, name in (*whole, *broken):
        for model in models:
            if name == "full-check-2009":
                size = next(steps.overrunning_sizes(slots))
                yield Case(protocol, name, model, size, max(entries, size + 1))
            else:
                yield Case(protocol, name, model, slots, entries)
