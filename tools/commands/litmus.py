"""`coalesced litmus`: the executions of two sides of a ring under a memory model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from coalesced.tools.commands.options import JsonOption
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.litmus.models import MODELS
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
        metavar="|".join(MODELS),
        help="Memory model. Repeatable.",
        show_default="all",
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
        "--matrix", help="Relax each order and fence of the shipped headers in turn, in each model."
    ),
]
DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", "-D", metavar="NAME[=VALUE]", help="Macro for FILE. Repeatable."),
]
SvgOption = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Draw the first wrong execution into FILE."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Let a Dask cluster explore the cases."),
]


def litmus(
    file: FileArgument = None,
    slots: SlotsOption = 3,
    entries: EntriesOption = 5,
    model: ModelOption = None,
    remove: RemoveOption = None,
    matrix: MatrixOption = False,
    define: DefineOption = None,
    svg: SvgOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
) -> int:
    """Run the shipped headers, or C code of your own, through every execution under memory models.

    With all barriers no execution may go wrong. With one removed, the command shows an execution
    that goes wrong, or the reason why this model does not need the barrier. `sc` is sequential
    consistency, `tso` x86's store buffers, `rc11` C11 without loads that read later stores, `weak`
    C11 with them, as on Arm. The check of 2009 runs in the smallest ring that shows its fault.
    Needs a C compiler. Exit status 1: a case differs from the prediction of tools/litmus/steps.py;
    with FILE, a check fails or a thread waits forever.
    """
    from coalesced.tools.litmus import verdicts  # noqa: PLC0415 - start-up time

    if file and (remove or matrix or scheduler):
        raise BadInput("FILE cannot be used with --remove, --matrix or --scheduler")
    if matrix and (remove or model):
        raise BadInput("--matrix cannot be used with --remove or --model")
    if define and not file:
        raise BadInput("--define needs a FILE")
    models = list(dict.fromkeys(model or MODELS))
    _check("--model", models, MODELS)
    _check("--remove", [remove] if remove else [], BARRIERS)
    if file:
        ok = verdicts.of_file(file, models, define or [], svg, json=json)
        return 0 if ok else 1
    from coalesced.tools.litmus import run  # noqa: PLC0415 - start-up time
    from coalesced.tools.litmus.cases import cases, matrix_cases  # noqa: PLC0415

    wanted = matrix_cases(slots, entries) if matrix else list(cases(slots, entries, models, remove))
    shown = run.print_cell if matrix else run.print_outcome
    found = run.run(wanted, (lambda _: None) if json else shown, scheduler)
    if svg:
        run.draw(found, svg)
    if json and matrix:
        run.print_matrix_json(found, slots, entries)
    elif json:
        run.print_json(found, models)
    if not found.complete:
        raise Interrupted(f"{len(found.outcomes)} cases explored")
    if not json:
        print("All as expected." if found.ok else "NOT AS EXPECTED.")
    return 0 if found.ok else 1


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
