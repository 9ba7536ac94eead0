"""The cases of `coalesced litmus`: a program without one barrier, or with all, under a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from coalesced.tools.litmus import exits, hostile, ring, steps, wakeup
from coalesced.tools.litmus.access import Program
from coalesced.tools.litmus.explore import STATES_MAX, explore
from coalesced.tools.litmus.models import KEEPS
from coalesced.tools.litmus.witness import columns, one_line


class Case(NamedTuple):
    """A program under a model."""

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
        """Whether the table of steps predicts that nothing goes wrong."""
        if self.removed is None:
            return True
        return not steps.needed(self.removed, self.model, self.slots, self.entries)

    def why(self) -> str:
        """The reason for the prediction."""
        if self.removed is None:
            return "every barrier is there"
        barrier = steps.BARRIERS[self.removed]
        if not self.expected():
            return barrier.without
        if self.removed == "full-check-2009":
            return f"with {self.slots} slots and {self.entries} entries the check cannot overrun"
        if barrier.keeps <= KEEPS[self.model]:
            kept = ", ".join(sorted("-".join(pair) for pair in barrier.keeps))
            return f"{self.model} always keeps {kept} in order"
        return f"{self.entries} entries in {self.slots} slots use no slot twice"


@dataclass(frozen=True)
class Outcome:
    """The result of a case. The fields are the keys of the JSON object."""

    removed: str | None
    model: str
    protocol: str
    slots: int
    entries: int
    states: int
    executions: int
    illegal: int
    ok: bool  # no execution is illegal
    expected: bool  # by the table of steps
    why: str
    wrong: str | None  # the error of the witness
    witness: list[str] | None  # a shortest illegal execution

    @property
    def as_expected(self) -> bool:
        """Whether the table of steps predicts the result."""
        return self.ok == self.expected


def explored(case: Case, most: int = STATES_MAX) -> tuple[Outcome, str]:
    """The outcome of a case, and its witness as two columns. Raises TooManyStates above `most`."""
    program = case.program()
    result = explore(program, case.model, most)
    outcome = Outcome(
        removed=case.removed,
        model=case.model,
        protocol=case.protocol,
        slots=case.slots,
        entries=case.entries,
        states=result.states,
        executions=result.executions,
        illegal=result.illegal,
        ok=result.illegal == 0,
        expected=case.expected(),
        why=case.why(),
        wrong=result.wrong,
        witness=[one_line(program, e) for e in result.witness] if result.wrong else None,
    )
    return outcome, columns(program, result) if result.wrong else ""


def cases(slots: int, entries: int, models: list[str], removed: str | None) -> Iterator[Case]:
    """The cases for these options; without `removed`: all barriers, then each removed in turn.

    The check of 2009 is correct, or refuses everything, in rings of up to 5 slots: its case has the
    least size from `slots` on that shows the fault, and enough entries.
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
