"""Explores a user's program and prints the verdicts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from coalesced.tools.errors import BadInput, warn
from coalesced.tools.litmus import herd, svg
from coalesced.tools.litmus.explore import Verdict, compiled, explored
from coalesced.tools.litmus.run import json_verdict, print_witness
from coalesced.tools.runs import report
from coalesced.tools.runs.words import plural


def of_file(
    file: Path, models: Sequence[str], defines: Sequence[str], picture: Path | None, *, json: bool
) -> bool:
    """Explore a program under each model and print the verdicts; False: one is wrong.

    The first wrong execution is drawn into `picture`.
    """
    if file.suffix not in (".c", ".litmus"):
        raise BadInput(f"{file}: expected a program in C, FILE.c, or a test of herd's, FILE.litmus")
    verdicts = []
    test = herd.read(file) if file.suffix == ".litmus" else None
    with tempfile.TemporaryDirectory(prefix="coalesced-litmus-") as folder:
        source = file
        if test:
            source = Path(folder, "test.c")
            source.write_text(test.code)
        program = compiled(source, defines, Path(folder, "program"))
        for model in models:
            verdicts.append(explored(program, model))
            if not json:
                print_verdict(test or file.name, verdicts[-1])
    wrong = [verdict for verdict in verdicts if not verdict.ok]
    if picture and wrong:
        svg.write(wrong[0], picture)
    elif picture:
        warn(f"--svg {picture}: nothing to draw; no execution is wrong")
    ok = not wrong or (test is not None and test.asks)
    if json:
        cases = [json_verdict(verdict) for verdict in verdicts]
        report.print_json({"file": str(file), "models": list(models), "cases": cases, "ok": ok})
    return ok


def print_verdict(name: str | herd.Litmus, verdict: Verdict) -> None:
    """Print a verdict, and the execution that is wrong in a column for each thread."""
    if isinstance(name, herd.Litmus):
        answer = name.answer(failed=not verdict.ok)
        print(f"{name.name}, {verdict.model}: the condition is {answer}")
    elif verdict.ok:
        print(f"{name}, {verdict.model}: ok in every execution ({verdict.executions:,})")
    else:
        correct = plural(verdict.executions, "correct execution")
        print(f"{name}, {verdict.model}: WRONG, after {correct}")
    if not verdict.ok:
        print_witness(verdict)
