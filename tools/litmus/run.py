"""Explores cases one after the other, and prints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus.cases import Case, Outcome, explored
from coalesced.tools.litmus.explore import STATES_MAX, TooManyStates
from coalesced.tools.runs import progress, report


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a run. The fields are the keys of the JSON object."""

    models: Sequence[str]
    complete: bool  # not ended by Ctrl-C
    cases: Sequence[Outcome]
    ok: bool  # all are as expected


def run(
    models: Sequence[str],
    cases: Sequence[Case],
    found: Callable[[Outcome, str], None],
    most: int = STATES_MAX,
) -> Outcomes:
    """Explore the cases; `found` is called after each. Ctrl-C ends the run early.

    Raises BadInput for a ring with more than `most` states.
    """
    outcomes: list[Outcome] = []
    complete = True
    try:
        with progress.shown(len(cases)) as bar:
            for case in cases:
                bar.show(f"{case.removed or 'all barriers'}, {case.protocol}, {case.model}")
                outcome, witness = _explored(case, most)
                outcomes.append(outcome)
                found(outcome, witness)
                bar.advance()
    except KeyboardInterrupt:
        complete = False
    return Outcomes(models, complete, outcomes, all(each.as_expected for each in outcomes))


def _explored(case: Case, most: int) -> tuple[Outcome, str]:
    try:
        return explored(case, most)
    except TooManyStates:
        raise BadInput(
            f"--slots {case.slots} --entries {case.entries}: more than {most:,} states "
            f"without {case.removed} under {case.model}; choose fewer"
        ) from None


def print_json(outcomes: Outcomes) -> None:
    """Print the JSON object."""
    report.print_json(asdict(outcomes))


def print_outcome(outcome: Outcome, witness: str) -> None:
    """Print a case, its prediction, and its witness."""
    name = f"without {outcome.removed}" if outcome.removed else "with all barriers"
    ring = outcome.protocol == "ring"
    size = f", {outcome.slots} slots, {outcome.entries} entries" if ring else ""
    print(f"{outcome.protocol} {name}, {outcome.model}{size}: {outcome.executions:,} executions, "
          f"{outcome.illegal:,} illegal")  # fmt: skip
    verdict = "as expected" if outcome.as_expected else "NOT AS EXPECTED"
    print(f"  {verdict}: {outcome.why}")
    if witness:
        print("\n" + "".join(f"    {line}\n" for line in witness.splitlines()))
