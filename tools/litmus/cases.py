"""The cases of `coalesced litmus`: a program without one barrier, or with all, under a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coalesced.tools.litmus import steps
from coalesced.tools.litmus.explore import CHECKER, Verdict, built, explored
from coalesced.tools.litmus.models import KEEPS, MODELS


class Case(NamedTuple):
    """A program under a model."""

    protocol: str
    removed: str | None
    model: str
    slots: int
    entries: int

    def defines(self) -> list[str]:
        """The macros of the program in checker/programs."""
        defines = [f"SLOTS={self.slots}", f"ENTRIES={self.entries}"]
        if self.removed:
            defines.append(steps.BARRIERS[self.removed].define)
        if self.removed == "full-check-2009":  # `first` must come round to slot 0
            defines += [f"START={self.slots - 1}", "BATCH=1"]
        return defines if self.protocol == "ring" else [defines[0], *defines[2:]]

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
            return f"{self.model} keeps {' and '.join(sorted(barrier.keeps))} in order"
        return f"{self.entries} entries in {self.slots} slots are too few to show it"


@dataclass(frozen=True)
class Outcome:
    """The result of a case."""

    case: Case
    verdict: Verdict

    @property
    def as_expected(self) -> bool:
        """Whether the table of steps predicts the result."""
        return self.verdict.ok == self.case.expected()


def build(case: Case) -> Path:
    """The program of a case, compiled once for all models. Raises BadInput without a C compiler."""
    return built(CHECKER / "programs" / f"{case.protocol}.c", tuple(case.defines()))


def outcome(case: Case) -> Outcome:
    """Explore a case. Raises BadInput without a C compiler."""
    return Outcome(case, explored(build(case), case.model))


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


def matrix_cases(slots: int, entries: int) -> list[Case]:
    """Those of the matrix: each ordered access and fence of the headers under each model."""
    return [
        case
        for case in cases(slots, entries, list(MODELS), None)
        if case.removed is None or steps.BARRIERS[case.removed].steps
    ]
