"""The report of a benchmark: one JSON object, or tables with units and spreads."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.bench.host import Host
from coalesced.tools.bench.measure import Spread
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import busy
from coalesced.tools.runs.json_members import members, print_json
from coalesced.tools.runs.report import print_table
from coalesced.vmm.output import write_whole

if TYPE_CHECKING:
    from rich.table import Table

Line = tuple[str, list[tuple[float, float]]]  # name, points (x, y)


WIDTH = 80  # columns of a terminal


class Row(NamedTuple):
    """A line of a table."""

    what: str
    figure: Spread
    remark: str = ""


class Chart(NamedTuple):
    """A chart of --plot: lines over x, or bars."""

    title: str
    x: str  # label of the axis; bars have none
    y: str
    lines: tuple[Line, ...] = ()
    bars: tuple[tuple[str, float], ...] = ()


class Section(NamedTuple):
    """The result of one benchmark."""

    key: str  # of its member in JSON
    figures: object  # a dataclass or a mapping: the members of that member
    title: str
    unit: str
    rows: Sequence[Row]
    singles: Mapping[str, NDArray[np.int64]] = {}  # single times, in nanoseconds
    charts: tuple[Chart, ...] = ()
    missing: Mapping[str, str] = {}  # subjects that were not measured, and why


@dataclass(frozen=True)
class Report:
    """The results of a run."""

    machine: Host
    sections: Sequence[Section]
    ended: BaseException | None = None  # what ended the run early
    others_cpu_share: float = 0.0  # CPU time of other processes meanwhile

    @property
    def complete(self) -> bool:
        """Whether everything was measured."""
        return self.ended is None

    def members(self) -> Mapping[str, object]:
        """The members of the JSON object: the machine, and each section's figures by its key."""
        figures = {section.key: encoded(section.figures) for section in self.sections}
        share = round(self.others_cpu_share, 3)
        head = {"machine": encoded(self.machine), "complete": self.complete}
        return {**head, "others_cpu_share": share, **figures}


def encoded(value: object) -> object:
    """A value as JSON has it: medians of spreads, three decimals, null for NaN."""
    if isinstance(value, Spread):
        return encoded(value.median)
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): encoded(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [encoded(each) for each in value]
    return encoded(members(value)) if is_dataclass(value) else value


def show(report: Report, as_json: bool) -> None:
    """Print the report."""
    if as_json:
        print_json(report.members())
        return
    if busy_line := _busy(report):
        print(_wrapped(busy_line))
    print(_wrapped(str(report.machine)))
    for section in report.sections:
        if section.rows:
            print_table(_table(section))
        for what, why in section.missing.items():
            print(_wrapped(f"Without {what}: {why}"))
    if not report.complete:
        print("Not complete: the rest was not measured.")


def _busy(report: Report) -> str:
    """The reason why the figures are unreliable; empty on a quiet machine."""
    if report.others_cpu_share <= busy.TOO_BUSY:
        return ""
    return f"CPU time of other processes {busy.remark(report.others_cpu_share)}."


def write_table(path: Path, report: Report) -> None:
    """Write the tables as one in Markdown. Raises BadInput when the file cannot be written."""
    lines = [f"| on {report.machine.cpus} CPUs of {report.machine.cpu} | median | min to max | |"]
    lines.append("|---|---:|---:|---|")
    for section in report.sections:
        lines.append(f"| **{section.title}**, {section.unit} | | | |")
        for what, remark, median, ends in _cells(section):
            lines.append(f"| {what} | {median} | {ends} | {remark} |")
    try:
        write_whole(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise BadInput(f"--table {path}: {error.strerror}") from error


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def _cells(section: Section) -> list[tuple[str, str, str, str]]:
    """(what, remark, median, least to greatest) of each row that was measured."""
    cells = []
    for what, figure, remark in section.rows:
        if math.isfinite(figure.median):
            ends = f"{text(figure.low)} to {text(figure.high)}" if math.isfinite(figure.low) else ""
            cells.append((what, remark, text(figure.median), ends))
    return cells


def _table(section: Section) -> Table:
    """The rows of a section: names, remarks below them, figures."""
    rows = [((what, remark), figures) for what, remark, *figures in _cells(section)]
    heads = (f"median, {section.unit}", f"min to max, {section.unit}")
    return narrow_table(section.title, heads, rows)


def narrow_table(
    title: str, heads: Sequence[str], rows: Sequence[tuple[tuple[str, str], Sequence[str]]]
) -> Table:
    """A table of at most 80 columns: texts and remarks at the left, figures under `heads`."""
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


def ends(figures: Mapping[str, Spread]) -> dict[str, tuple[float, float]]:
    """Least and greatest of each figure."""
    return {name: (figure.low, figure.high) for name, figure in figures.items()}
