"""`coalesced litmus`: what two sides of a ring can see under a memory model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from coalesced.tools.commands.options import JsonOption
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.litmus.models import DEFAULT, KEEPS
from coalesced.tools.litmus.steps import BARRIERS
from coalesced.tools.runs import report

if TYPE_CHECKING:
    from coalesced.tools.litmus.cases import Case, Outcome

SlotsOption = Annotated[
    int, typer.Option("--slots", metavar="N", min=2, max=8, help="Slots of the ring, 2 to 8.")
]
EntriesOption = Annotated[
    int,
    typer.Option("--entries", metavar="N", min=1, max=12, help="Entries put in, 1 to 12."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="|".join(KEEPS),
        help="A memory model; may be given several times.",
        show_default=", ".join(DEFAULT),
    ),
]
RemoveOption = Annotated[
    str | None,
    typer.Option(
        "--remove", metavar="BARRIER", help=f"Only without this one: {', '.join(BARRIERS)}."
    ),
]


def litmus(
    slots: SlotsOption = 3,
    entries: EntriesOption = 5,
    model: ModelOption = None,
    remove: RemoveOption = None,
    json: JsonOption = False,
) -> int:
    """Explore every execution of a small ring, its exits and wake-ups under memory models.

    With all barriers nothing may go wrong. With one removed, the shortest execution that goes wrong
    is shown, or why this model does not need the barrier. `sc` is sequential consistency, `tso`
    x86's store buffers, `weak` reorders whatever acquire, release, fences and dependencies leave
    free; `arm`, on request, is weak with stores that wait for the branches before them. An
    execution is an order in which all accesses take place; they are counted, not walked one by one.
    The check of 2009 gets the least ring that shows it. Exit status 1: a case is not as the table
    of steps in tools/litmus/steps.py predicts.
    """
    from coalesced.tools.litmus.cases import cases  # noqa: PLC0415 - start-up time
    from coalesced.tools.litmus.explore import STATES_MAX, TooManyStates  # noqa: PLC0415

    models = list(dict.fromkeys(model)) if model else list(DEFAULT)
    _known("--model", models, KEEPS)
    _known("--remove", [remove] if remove else [], BARRIERS)
    outcomes: list[Outcome] = []
    try:
        _explore(outcomes, cases(slots, entries, models, remove), json)
    except TooManyStates as error:
        raise BadInput(
            f"--slots {slots} --entries {entries}: more than {STATES_MAX:,} states {error}; "
            "take fewer"
        ) from None
    except KeyboardInterrupt as error:
        if json:
            report.print_json({"models": models, "complete": False, **_facts(outcomes)})
        raise Interrupted(f"{len(outcomes)} cases explored") from error
    ok = all(outcome.as_expected for outcome in outcomes)
    if json:
        report.print_json({"models": models, "complete": True, **_facts(outcomes)})
    else:
        print("All as expected." if ok else "NOT AS EXPECTED.")
    return 0 if ok else 1


def _facts(outcomes: list[Outcome]) -> dict[str, object]:
    ok = all(outcome.as_expected for outcome in outcomes)
    return {"cases": [outcome.facts() for outcome in outcomes], "ok": ok}


def _explore(outcomes: list[Outcome], cases: Iterable[Case], json: bool) -> None:
    """Explore one case after the other. Raises TooManyStates."""
    from coalesced.tools.litmus.cases import Outcome  # noqa: PLC0415 - start-up time
    from coalesced.tools.litmus.explore import TooManyStates  # noqa: PLC0415

    for case in cases:
        _progress(f"{case.removed or 'all barriers'}, {case.protocol}, {case.model}")
        try:
            outcome = Outcome.of(case)
        except TooManyStates:
            raise TooManyStates(f"without {case.removed} under {case.model}") from None
        finally:
            _progress("")
        outcomes.append(outcome)
        if not json:
            _show(outcome)


def _known(option: str, given: list[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"{option} {name}: expected one of {', '.join(known)}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _show(outcome: Outcome) -> None:
    case, result = outcome.case, outcome.result
    name = f"without {case.removed}" if case.removed else "with all barriers"
    size = f", {case.slots} slots, {case.entries} entries" if case.protocol == "ring" else ""
    print(f"{case.protocol} {name}, {case.model}{size}: {result.executions:,} executions, "
          f"{result.illegal:,} illegal")  # fmt: skip
    verdict = "as expected" if outcome.as_expected else "NOT AS EXPECTED"
    print(f"  {verdict}: {case.why()}")
    if result.wrong:
        print("\n" + "".join(f"    {line}\n" for line in outcome.shown().splitlines()))


def register(app: typer.Typer) -> None:
    """Add `litmus` to the program."""
    app.command(
        "litmus",
        epilog="Examples: coalesced litmus; coalesced litmus --remove wakeup-fence --model tso; "
        "coalesced litmus --slots 4 --entries 6 --json",
    )(litmus)
