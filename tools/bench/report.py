"""Figures as one JSON object, or as tables with units and the spread of the repetitions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from coalesced.tools.bench.measure import Spread
from coalesced.tools.runs.report import print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from coalesced.tools.bench.histogram import Histogram

Row = tuple[str, Spread, str]  # what, figure, remark
Line = tuple[str, list[tuple[float, float]]]  # name, points (x, y)


WIDTH = 80  # of a terminal


class Chart(NamedTuple):
    """What --plot draws of a section: lines over x, or bars."""

    title: str
    x: str  # label of the axis; bars have none
    y: str
    lines: tuple[Line, ...] = ()
    bars: tuple[tuple[str, float], ...] = ()


class Section(NamedTuple):
    """What one benchmark has to say."""

    key: str
    values: dict[str, object]
    title: str
    unit: str
    rows: list[Row]
    histograms: Mapping[str, Histogram] = {}  # microseconds
    charts: tuple[Chart, ...] = ()
    missing: Mapping[str, str] = {}  # what could not be measured, and why


def show(
    sections: Sequence[Section],
    machine: Mapping[str, object],
    as_json: bool,
    complete: bool = True,
) -> None:
    """Print the sections, with the machine that they hold on; `complete`: no Ctrl-C came."""
    if as_json:
        print_json(as_object(sections, machine, complete))
        return
    print(_wrapped(machine_line(machine)))
    for section in sections:
        if section.rows:
            print_table(_table(section))
        for what, why in section.missing.items():
            print(_wrapped(f"Without {what}: {why}"))
    if not complete:
        print("Not complete: what is missing was not measured.")


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def as_object(
    sections: Sequence[Section], machine: Mapping[str, object], complete: bool
) -> dict[str, object]:
    """The machine, and each section's values by its key."""
    values = {section.key: section.values for section in sections}
    return {"machine": dict(machine), "complete": complete, **values}


def machine_line(machine: Mapping[str, object]) -> str:
    """The machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _table(section: Section) -> Table:
    """What was measured, its figures, and below it the remark."""
    rows = []
    for what, figure, remark in section.rows:
        if not math.isfinite(figure.median):
            continue  # Ctrl-C came first
        ends = f"{text(figure.low)} to {text(figure.high)}" if math.isfinite(figure.low) else ""
        rows.append(((what, remark), (text(figure.median), ends)))
    heads = (f"median, {section.unit}", f"min to max, {section.unit}")
    return narrow_table(section.title, heads, rows)


def narrow_table(
    title: str, heads: Sequence[str], rows: Sequence[tuple[tuple[str, str], Sequence[str]]]
) -> Table:
    """A table of at most 80 columns: texts at the left, what is too long for a line in several,
    with its remark below it, and figures under `heads` at the right."""
    from rich.table import Table  # noqa: PLC0415 - --json does not need it

    columns = zip(heads, *(figures for _, figures in rows), strict=True)
    room = WIDTH - 1 - 3 * (len(heads) + 1) - sum(max(map(len, column)) for column in columns)
    table = Table(title="\n".join(textwrap.wrap(title, WIDTH)), title_justify="left")
    table.add_column("")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for (what, remark), figures in rows:
        lines = textwrap.wrap(what, room, subsequent_indent="  ")
        indent = "    "
        lines += textwrap.wrap(remark, room, initial_indent=indent, subsequent_indent=indent)
        table.add_row("\n".join(lines), *figures)
    return table


def text(value: float) -> str:
    """A figure with about three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def plural(count: int, what: str) -> str:
    """1 page, 2 pages."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def ratio(figure: Spread, other: Spread) -> float | None:
    """One median by another, None where one is missing."""
    return rounded(figure.median / other.median)


def medians(figures: Mapping[str, Spread]) -> dict[str, object]:
    """JSON: the medians."""
    return {name: rounded(figure.median) for name, figure in figures.items()}


def spreads(figures: Mapping[str, Spread]) -> dict[str, object]:
    """JSON: [least, greatest]."""
    return {name: [rounded(figure.low), rounded(figure.high)] for name, figure in figures.items()}


def rounded(value: float) -> float | None:
    """JSON knows no NaN."""
    return round(value, 3) if math.isfinite(value) else None
