"""The matrix: each ordered access and fence of the shipped headers, relaxed, under each model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from coalesced.tools.litmus import checking
from coalesced.tools.litmus.checking import CHECKER, MODELS, Verdict, compiled, explored

_RING = "ring"
# The macro of an order in a header, or of a fence's place in a program: what it is in, and what
# relaxed does, where a model forbids that.
BARRIERS = {
    "ORDER_ACQUIRE_FIRST": _RING,
    "ORDER_RELEASE_LAST": _RING,
    "ORDER_ACQUIRE_LAST": _RING,
    "ORDER_RELEASE_FIRST": _RING,
    "ORDER_RELEASE_EXIT": "exit",
    "ORDER_ACQUIRE_EXIT": "exit",
    "ORDER_RELEASE_RESUME": "exit",
    "ORDER_ACQUIRE_RESUME": "exit",
    "FENCE_WAKEUP": "wakeup",
    "WAKER_FENCE": "wakeup",
    "SLEEPER_FENCE": "wakeup",
}
PROGRAMS = tuple(dict.fromkeys(BARRIERS.values()))


@dataclass(frozen=True)
class Cell:
    """A program with one barrier relaxed, or with none, under a model."""

    barrier: str | None
    program: str
    verdict: Verdict

    @property
    def name(self) -> str:
        return (self.barrier or f"{self.program}, whole").removeprefix("ORDER_")

    @property
    def says(self) -> str:
        """The cell's text: needed, or redundant and why."""
        if not self.verdict.ok:
            return "needed"
        return f"redundant: {_why(self.verdict)}"


def _why(verdict: Verdict) -> str:
    count = f"none of {verdict.executions:,} executions is wrong without it"
    reason = {
        "sc": "every access keeps its place",
        "tso": "x86 keeps all but a store before a later load in order",
        "rc11": "no load finds a store that comes after it, and branches hold stores back",
        "weak": "dependencies hold the stores back",
    }[verdict.model]
    return f"{count}: {reason}"


def cells(
    slots: int, entries: int, found: Callable[[Cell], None], workers: int | None = None
) -> list[Cell]:
    """Explore every cell, and each whole program, over worker processes.

    `found` is called for each cell as it comes.
    """
    cases = [(None, program) for program in PROGRAMS] + list(BARRIERS.items())
    with ExitStack() as stack, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        checking.explorer()  # before the workers want it
        built = list(pool.map(lambda case: _built(stack, case, slots, entries), cases))
        jobs = [
            (barrier, program, executable, model)
            for (barrier, program), executable in zip(cases, built, strict=True)
            for model in MODELS
        ]

        def cell(job: tuple[str | None, str, Path, str]) -> Cell:
            barrier, program, executable, model = job
            return Cell(barrier, program, explored(executable, model))

        done = []
        for each in pool.map(cell, jobs):
            found(each)
            done.append(each)
        return done


def _built(stack: ExitStack, case: tuple[str | None, str], slots: int, entries: int) -> Path:
    barrier, program = case
    defines = [f"SLOTS={slots}", f"ENTRIES={entries}"]
    if barrier:
        defines.append(f"{barrier}=memory_order_relaxed")
    return stack.enter_context(compiled(CHECKER / "programs" / f"{program}.c", defines))


def table(found: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """The matrix of the JSON object: barrier, model, text."""
    rows: dict[str, dict[str, str]] = {}
    for cell in found:
        if cell.barrier:
            rows.setdefault(cell.name, {})[cell.verdict.model] = cell.says
    return rows


def whole(found: Sequence[Cell]) -> bool:
    """Whether nothing is wrong in the programs as they are shipped."""
    return all(cell.verdict.ok for cell in found if not cell.barrier)
