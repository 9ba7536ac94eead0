"""`coalesced litmus`: the executions of two sides of a ring under a memory model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import JsonOption
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.litmus.models import DEFAULT, KEEPS
from coalesced.tools.litmus.steps import BARRIERS

SlotsOption = Annotated[
    int, typer.Option("--slots", metavar="N", min=2, max=8, help="Slots of the ring, 2 to 8.")
]
EntriesOption = Annotated[
    int,
    typer.Option("--entries", metavar="N", min=1, max=12, help="Entries appended, 1 to 12."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="|".join([*KEEPS, "rc11"]),
        help="Memory model. Repeatable.",
        show_default=", ".join(DEFAULT),
    ),
]
RemoveOption = Annotated[
    str | None,
    typer.Option(
        "--remove", metavar="BARRIER", help=f"Remove only this barrier: {', '.join(BARRIERS)}."
    ),
]


FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="FILE.c: threads over any header with C11 atomics. FILE.litmus: herd's C format.",
    ),
]
MatrixOption = Annotated[
    bool,
    typer.Option(
        "--matrix", help="Relax each order and fence of ring.h and exit.h in turn, in each model."
    ),
]
DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", "-D", metavar="NAME[=VALUE]", help="Macro for FILE. Repeatable."),
]


def litmus(
    file: FileArgument = None,
    slots: SlotsOption = 3,
    entries: EntriesOption = 5,
    model: ModelOption = None,
    remove: RemoveOption = None,
    matrix: MatrixOption = False,
    define: DefineOption = None,
    json: JsonOption = False,
) -> int:
    """Explore every execution of a small ring, its exits and wake-ups under memory models.

    With all barriers no execution may be illegal. With one removed, the shortest illegal execution
    is shown, or the reason why this model does not need the barrier. `sc` is sequential
    consistency, `tso` x86's store buffers; `weak` reorders all that acquire, release, fences and
    dependencies leave free; `arm`, on request, is weak with stores that wait for the branches
    before them. An execution is an order of all accesses; executions are counted, not walked one by
    one. The check of 2009 is explored in the smallest ring that shows its fault. Exit status 1: a
    case differs from the prediction of tools/litmus/steps.py.

    With FILE, and with --matrix, the C code itself is run through every execution; the models
    are sc, tso, rc11 (C11 without loads that find later stores) and weak (with them, as on Arm).
    Exit status 1: a check fails, or a thread waits for good. Both need a C compiler.
    """
    from coalesced.tools.litmus import run  # noqa: PLC0415 - start-up time
    from coalesced.tools.litmus.cases import cases  # noqa: PLC0415

    if file or matrix:
        return _program(file, slots, entries, model, remove, define or [], json=json)
    if define:
        raise BadInput("--define needs a FILE")
    models = list(dict.fromkeys(model)) if model else list(DEFAULT)
    _check("--model", models, KEEPS)
    _check("--remove", [remove] if remove else [], BARRIERS)
    found = (lambda *_: None) if json else run.print_outcome
    outcomes = run.run(models, list(cases(slots, entries, models, remove)), found)
    if json:
        run.print_json(outcomes)
    if not outcomes.complete:
        raise Interrupted(f"{len(outcomes.cases)} cases explored")
    if not json:
        print("All as expected." if outcomes.ok else "NOT AS EXPECTED.")
    return 0 if outcomes.ok else 1


def _program(
    file: Path | None,
    slots: int,
    entries: int,
    model: list[str] | None,
    remove: str | None,
    define: list[str],
    *,
    json: bool,
) -> int:
    """Check C code: a file's, or that of the headers."""
    from coalesced.tools.litmus import verdicts  # noqa: PLC0415 - start-up time
    from coalesced.tools.litmus.checking import MODELS  # noqa: PLC0415

    if remove:
        raise BadInput("--remove cannot be used with FILE or --matrix")
    models = list(dict.fromkeys(model or MODELS))
    _check("--model", models, MODELS)
    if file:
        return verdicts.of_file(file, models, define, json=json)
    if model or define:
        raise BadInput("--matrix cannot be used with --model or --define")
    return verdicts.of_matrix(slots, entries, json=json)


def _check(option: str, given: Sequence[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"{option} {name}: expected one of {', '.join(known)}")


def register(app: typer.Typer) -> None:
    """Add `litmus` to the program."""
    app.command(
        "litmus",
        epilog="Examples: coalesced litmus; coalesced litmus --remove wakeup-fence --model tso; "
        "coalesced litmus --slots 4 --entries 6 --json; "
        "coalesced litmus --matrix --entries 7; coalesced litmus mine.c --model rc11",
    )(litmus)
