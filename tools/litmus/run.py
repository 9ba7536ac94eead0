"""Explores cases and prints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from coalesced.tools.errors import warn
from coalesced.tools.litmus import matrix, svg
from coalesced.tools.litmus.cases import Case, Outcome
from coalesced.tools.litmus.explore import Verdict
from coalesced.tools.litmus.spread import outcomes
from coalesced.tools.litmus.steps import PROTOCOLS
from coalesced.tools.litmus.witness import THREADS, columns, one_line
from coalesced.tools.runs import progress, report
from coalesced.tools.runs.words import plural


@dataclass(frozen=True)
class Found:
    """The outcomes of a run."""

    outcomes: Sequence[Outcome]
    complete: bool  # not ended by Ctrl-C

    @property
    def ok(self) -> bool:
        """Whether all are as expected."""
        return all(each.as_expected for each in self.outcomes)


def run(
    cases: Sequence[Case], found: Callable[[Outcome], None], scheduler: str | None = None
) -> Found:
    """Explore the cases; `found` is called after each. Ctrl-C ends the run early.

    `scheduler` is the address of a Dask cluster that explores them.
    """
    done: list[Outcome] = []
    try:
        with progress.shown(len(cases)) as bar, closing(outcomes(cases, scheduler)) as coming:
            for each in coming:
                done.append(each)
                found(each)
                bar.advance()
    except KeyboardInterrupt:
        return Found(done, complete=False)
    return Found(done, complete=True)


def draw(found: Found, file: Path) -> None:
    """Draw the first wrong execution, if there is one."""
    for each in found.outcomes:
        if not each.verdict.ok:
            svg.write(each.verdict, file, PROTOCOLS[each.case.protocol])
            return
    warn(f"--svg {file}: nothing to draw; no execution is wrong")


def print_json(found: Found, models: Sequence[str]) -> None:
    """Print the JSON object."""
    cases = [json_case(each) for each in found.outcomes]
    report.print_json(
        {"models": list(models), "complete": found.complete, "cases": cases, "ok": found.ok}
    )


def print_matrix_json(found: Found, slots: int, entries: int) -> None:
    """Print the JSON object of the matrix."""
    report.print_json(
        {
            "matrix": matrix.table(found.outcomes),
            "bounds": {"slots": slots, "entries": entries},
            "complete": found.complete,
            "cases": [json_case(each) for each in found.outcomes],
            "ok": found.ok,
        }
    )


def json_case(outcome: Outcome) -> dict[str, object]:
    """A case in a JSON object."""
    case, verdict = outcome.case, outcome.verdict
    return {
        **case._asdict(),
        **json_verdict(verdict),
        "expected": case.expected(),
        "why": case.why(),
        "witness": None if verdict.ok else list(one_line(verdict, PROTOCOLS[case.protocol])),
    }


def json_verdict(verdict: Verdict) -> dict[str, object]:
    """A verdict in a JSON object."""
    found = asdict(verdict)
    for event in found["events"]:
        event["from"] = event.pop("from_")
    return found


def print_outcome(outcome: Outcome) -> None:
    """Print a case, its prediction, and its witness."""
    case, verdict = outcome.case, outcome.verdict
    without = f"without {case.removed}" if case.removed else "with all barriers"
    size = f", {case.slots} slots, {case.entries} entries" if case.protocol == "ring" else ""
    kind = "execution" if verdict.ok else "correct execution"
    result = f"{'ok in' if verdict.ok else 'wrong after'} {plural(verdict.executions, kind)}"
    print(f"{case.protocol} {without}, {case.model}{size}: {result}")
    print(f"  {'as expected' if outcome.as_expected else 'NOT AS EXPECTED'}: {case.why()}")
    if not verdict.ok:
        print_witness(verdict, PROTOCOLS[case.protocol])


def print_cell(outcome: Outcome) -> None:
    """Print a cell of the matrix, and its witness; or a program with all barriers."""
    if not outcome.case.removed:
        print_outcome(outcome)
        return
    print(f"{matrix.name(outcome):<16} {outcome.case.model:<5} {matrix.cell(outcome)}")
    if not outcome.as_expected:
        print("  NOT AS EXPECTED")
    if not outcome.verdict.ok:
        print_witness(outcome.verdict, PROTOCOLS[outcome.case.protocol])


def print_witness(verdict: Verdict, names: Sequence[str] = THREADS) -> None:
    """Print a wrong execution, a column for each thread."""
    print("\n" + "".join(f"    {line}\n" for line in columns(verdict, names).splitlines()))
