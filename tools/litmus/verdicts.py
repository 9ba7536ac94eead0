"""Checks C code and prints what is found."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus import herd, matrix
from coalesced.tools.litmus.checking import Verdict, compiled, explored
from coalesced.tools.litmus.execution import columns
from coalesced.tools.runs import report

_HOW = {
    ("exists", True): "reached",
    ("exists", False): "never reached",
    ("~exists", True): "reached",
    ("~exists", False): "never reached",
    ("forall", True): "always met",
    ("forall", False): "missed",
}


def of_file(file: Path, models: Sequence[str], defines: Sequence[str], *, json: bool) -> int:
    """Check a program under each model, print the verdicts; 1: one is wrong."""
    if file.suffix not in (".c", ".litmus"):
        raise BadInput(f"{file}: expected a program in C, FILE.c, or a test of herd's, FILE.litmus")
    verdicts = []
    test = herd.read(file) if file.suffix == ".litmus" else None
    with ExitStack() as stack:
        source = stack.enter_context(_written(test)) if test else file
        program = stack.enter_context(compiled(source, defines))
        for model in models:
            verdicts.append(explored(program, model))
            if not json:
                print_verdict(test or file.name, verdicts[-1])
    ok = all(verdict.ok for verdict in verdicts) or (test is not None and test.asks)
    if json:
        cases = [_object(verdict) for verdict in verdicts]
        report.print_json({"file": str(file), "models": list(models), "cases": cases, "ok": ok})
    return 0 if ok else 1


@contextmanager
def _written(test: herd.Litmus) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="coalesced-litmus-") as folder:
        source = Path(folder) / "test.c"
        source.write_text(test.code)
        yield source


def print_verdict(name: str | herd.Litmus, verdict: Verdict) -> None:
    """Print a verdict, and the execution that is wrong in two columns or more."""
    if isinstance(name, herd.Litmus):
        reached = verdict.ok == (name.quantifier == "forall")
        print(f"{name.name}, {verdict.model}: the condition is {_HOW[name.quantifier, reached]}")
    elif verdict.ok:
        print(f"{name}, {verdict.model}: ok in every execution ({verdict.executions:,})")
    else:
        print(f"{name}, {verdict.model}: WRONG, after {verdict.executions:,} correct executions")
    if not verdict.ok:
        print("\n" + "".join(f"    {line}\n" for line in columns(verdict).splitlines()))


def of_matrix(slots: int, entries: int, *, json: bool) -> int:
    """Print the matrix; 1: something is wrong in the headers as they are."""
    found = matrix.cells(slots, entries, (lambda _: None) if json else _print_cell)
    ok = matrix.whole(found)
    if json:
        report.print_json(
            {
                "matrix": matrix.table(found),
                "bounds": {"slots": slots, "entries": entries},
                "cases": [{"removed": cell.name, **_object(cell.verdict)} for cell in found],
                "ok": ok,
            }
        )
    else:
        print("The headers are right." if ok else "THE HEADERS ARE WRONG.")
    return 0 if ok else 1


def _print_cell(cell: matrix.Cell) -> None:
    if cell.barrier:
        print(f"{cell.name:<16} {cell.verdict.model:<5} {cell.says}")
    else:
        print_verdict(f"{cell.program} with all barriers", cell.verdict)
    if cell.barrier and not cell.verdict.ok:
        print("\n" + "".join(f"    {line}\n" for line in columns(cell.verdict).splitlines()))


def _object(verdict: Verdict) -> dict[str, object]:
    found = asdict(verdict)
    for event in found["events"]:
        event["from"] = event.pop("from_")
    return found
