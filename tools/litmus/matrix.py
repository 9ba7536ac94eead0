"""The matrix: each ordered access and fence of the shipped headers, relaxed, under each model."""

from __future__ import annotations

from collections.abc import Sequence

from coalesced.tools.litmus.cases import Outcome
from coalesced.tools.litmus.steps import BARRIERS


def name(outcome: Outcome) -> str:
    """The barrier's name in the matrix, which is that of its macro in the header."""
    removed = outcome.case.removed
    return BARRIERS[removed].macro.removeprefix("ORDER_") if removed else ""


def cell(outcome: Outcome) -> str:
    """`needed`, or `redundant` and why."""
    if not outcome.verdict.ok:
        return "needed"
    count = outcome.verdict.executions
    return f"redundant: {outcome.case.why()}; none of {count:,} executions is wrong without it"


def table(outcomes: Sequence[Outcome]) -> dict[str, dict[str, str]]:
    """The matrix of the JSON object: barrier, model, text."""
    rows: dict[str, dict[str, str]] = {}
    for each in outcomes:
        if each.case.removed:
            rows.setdefault(name(each), {})[each.case.model] = cell(each)
    return rows
