"""The charts of a report as one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coalesced.tools.bench.report import Chart, Section, text
from coalesced.tools.errors import BadInput
from coalesced.vmm.output import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH, HEIGHT = 8.0, 4.5  # inches of a chart
DPI = 110
DECADE = 10.0  # a logarithmic axis spans one at least: otherwise noise fills it


def check() -> None:
    """Raise BadInput without matplotlib: before anything is measured."""
    try:
        import matplotlib  # noqa: F401, PLC0415 - heavy, for --plot only
    except ImportError:
        raise BadInput("--plot needs matplotlib: pip install 'coalesced-mmio[bench]'") from None


def draw(path: Path, sections: Sequence[Section], machine: str) -> None:
    """Draw every chart, two in a row. Raises BadInput when the file cannot be written."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    charts = [chart for section in sections for chart in section.charts if _finite(chart)]
    if not charts:
        return
    columns = min(len(charts), 2)
    rows = (len(charts) + 1) // 2
    figure = pyplot.figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    for number, chart in enumerate(charts, 1):
        axis = figure.add_subplot(rows, columns, number)
        (_bars if chart.bars else draw_lines)(axis, chart)
        axis.set_title(chart.title, loc="left")
    figure.supxlabel(machine, fontsize="x-small", color="gray")
    try:
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=DPI)
        write_whole(path, data.getvalue())
    except OSError as error:
        raise BadInput(f"--plot {path}: {error.strerror}") from error
    finally:
        pyplot.close(figure)


def _finite(chart: Chart) -> bool:
    costs = [cost for _, cost in chart.bars]
    costs += [y for _, points in chart.lines for _, y in points]
    return any(math.isfinite(cost) for cost in costs)


def draw_lines(axis: Axes, chart: Chart) -> None:
    """Cost over x, both logarithmic."""
    ticks: set[float] = set()
    for name, points in chart.lines:
        shown = [(x, y) for x, y in points if math.isfinite(y)]
        if not shown:
            continue
        few = len(shown) < 20
        ticks |= {x for x, _ in shown} if few else set()
        level = len(shown) == 2 and shown[0][1] == shown[1][1]  # it has no ring
        style, marker = ("--", "") if level else ("-", "o" if few else "")
        axis.plot(*zip(*shown, strict=True), linestyle=style, marker=marker, label=name)
    axis.set_xscale("log", base=2 if ticks else 10)
    axis.set_yscale("log")
    if ticks:
        axis.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    _number(axis.yaxis)
    low, high = axis.get_ylim()
    wider = max(1.0, DECADE / (high / low)) ** 0.5
    axis.set_ylim(low / wider, high * wider)
    axis.set_xlabel(chart.x)
    axis.set_ylabel(chart.y)
    axis.grid(visible=True, which="both", alpha=0.25)
    axis.legend(fontsize="small", framealpha=0.5)


def _number(axis: Axis) -> None:
    """Write 1, 2, 5 and so on at a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _bars(axis: Axes, chart: Chart) -> None:
    shown = sorted((bar for bar in chart.bars if math.isfinite(bar[1])), key=lambda bar: -bar[1])
    names, costs = zip(*shown, strict=True)
    drawn = axis.barh(names, costs)
    axis.bar_label(
        drawn, [f"{text(cost)} {chart.y}" for cost in costs], padding=3, fontsize="small"
    )
    axis.set_xscale("log")
    _number(axis.xaxis)
    room = (costs[0] / costs[-1]) ** 0.35  # for the text behind the longest bar
    axis.set_xlim(costs[-1] / 2, costs[0] * max(room, 2.0))
    axis.set_xlabel(chart.y)
    axis.grid(visible=True, axis="x", alpha=0.25)
