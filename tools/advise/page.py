"""An advice as one self-contained HTML page: activity over time, waits, exits, evidence."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Final

from coalesced.tools.advise.advice import Advice, RangeAdvice
from coalesced.tools.advise.passes import PARTS
from coalesced.tools.advise.report import evidence, lines, zones_as
from coalesced.tools.advise.verdicts import Verdict, duration

ROWS: Final = 48  # of the heat map
_CELL: Final = (9, 14)  # pixels
_LABEL: Final = 300
_CHART: Final = 120
_BAR: Final = 12
_NARROW: Final = 820  # a picture is not shrunk below this width: it scrolls
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667; --paper: #fff; --rule: #d5d8de;
  --coalesce: #1a7f4b; --leave: #b3372f; --unproven: #a5730b; --now: #9aa3b2; --heat: 20, 90, 190; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6eb; --soft: #99a; --paper: #16181d;
  --rule: #363a44; --coalesce: #4cc38a; --leave: #f07a70; --unproven: #e0ad4a; --now: #5d6675;
  --heat: 110, 170, 255; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
svg { display: block; max-width: 100%; height: auto; }
.chart { overflow-x: auto; }
svg text { fill: var(--ink); font-size: 11px; }
svg .soft { fill: var(--soft); } pre { overflow-x: auto; font-size: 13px; }
h2 { border-top: 1px solid var(--rule); padding-top: 1rem; margin-top: 2rem; }
details { border-bottom: 1px solid var(--rule); padding: .4rem 0; } summary { cursor: pointer; }
.coalesce { color: var(--coalesce); } .leave { color: var(--leave); }
.unproven { color: var(--unproven); }
rect.now { fill: var(--now); } rect.advised { fill: var(--coalesce); }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; }
.figures b { display: block; font-size: 1.7rem; }
.soft { color: var(--soft); } code { font-size: 13px; }
"""


def page(advice: Advice) -> str:
    """The whole page; it loads nothing."""
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>Advice on {_text(advice.trace)}</title><style>{_STYLE}</style>",
            *_head(advice),
            *_exits(advice),
            *_heat(advice),
            *_ranges(advice),
            "<h2>The report</h2>",
            f"<pre>{_text(chr(10).join(lines(advice)))}</pre>",
            "</html>",
        )
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _head(advice: Advice) -> Iterator[str]:
    saved = (advice.exits - advice.exits_advised) / max(advice.exits, 1)
    yield f"<h1>Advice on {_text(advice.trace)}</h1>"
    yield '<div class="figures">'
    for figure, what in (
        (f"{advice.exits:,}", "exits as recorded"),
        (f"{advice.exits_advised:,}", "exits with the advice"),
        (f"{saved:.1%}", "of the exits saved"),
        (_agreement(advice), "of the writes in zones as the ring's rules predict"),
    ):
        yield f"<div><b>{_text(figure)}</b>{what}</div>"
    yield "</div>"
    if advice.advised:
        yield f"<h2>Zones to add</h2><pre>{_text(zones_as('c', advice.advised))}</pre>"


def _agreement(advice: Advice) -> str:
    agreed = advice.agreement
    return "no exits recorded" if agreed is None else f"{agreed.agreed:,} of {agreed.writes:,}"


def _axis(advice: Advice) -> str:
    if advice.recordings:
        return f"each recording in {PARTS} parts"
    if advice.part_seconds is None:
        return f"the recording in {PARTS} parts of equally many events"
    return f"the recording in {PARTS} parts of {duration(round(advice.part_seconds * 1e9))}"


def _svg(width: float, height: float, content: Iterator[str], label: str) -> Iterator[str]:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    size += f' style="min-width: {min(width, _NARROW)}px"'
    yield f'<div class="chart"><svg {size} role="img" aria-label="{_text(label)}">'
    yield from content
    yield "</svg></div>"


def _exits(advice: Advice) -> Iterator[str]:
    yield "<h2>Exits over time</h2>"
    yield f'<p class="soft">Grey as recorded, green with the advice; {_axis(advice)}.</p>'
    width = _LABEL + PARTS * _CELL[0]
    yield from _svg(width, _CHART + 4, _exit_bars(advice), "Exits over time")


def _exit_bars(advice: Advice) -> Iterator[str]:
    most = max(1, *advice.exits_by_part, *advice.exits_advised_by_part)
    yield f'<text x="{_LABEL - 8}" y="12" text-anchor="end" class="soft">{most:,}</text>'
    for kind, bars in (("now", advice.exits_by_part), ("advised", advice.exits_advised_by_part)):
        inset = 0 if kind == "now" else 2
        for part, count in enumerate(bars):
            if count:
                height = max(1.0, count / most * _CHART)
                yield (
                    f'<rect class="{kind}" x="{_LABEL + part * _CELL[0] + inset}" '
                    f'y="{_CHART - height:.1f}" width="{_CELL[0] - 1 - 2 * inset}" '
                    f'height="{height:.1f}"><title>{count:,} exits</title></rect>'
                )


def _heat(advice: Advice) -> Iterator[str]:
    rows = advice.ranges[:ROWS]
    yield (
        f'<h2>Registers over time</h2><p class="soft">Accesses of the {len(rows)} ranges with most '
        f"exits, the darker the more (logarithmic); {_axis(advice)}.</p>"
    )
    width, height = _LABEL + PARTS * _CELL[0], len(rows) * _CELL[1]
    yield from _svg(width, height, _cells(rows), "Accesses to each range over time")


def _cells(rows: Sequence[RangeAdvice]) -> Iterator[str]:
    most = math.log1p(max((count for row in rows for count in row.parts), default=1))
    for number, row in enumerate(rows):
        top = number * _CELL[1]
        yield (
            f'<text x="{_LABEL - 8}" y="{top + 11}" text-anchor="end">'
            f'{_text(_label(row))} <tspan fill="var(--{row.verdict})">■</tspan></text>'
        )
        for part, count in enumerate(row.parts):
            if count:
                shade = 0.12 + 0.88 * math.log1p(count) / most
                yield (
                    f'<rect x="{_LABEL + part * _CELL[0]}" y="{top}" width="{_CELL[0] - 1}" '
                    f'height="{_CELL[1] - 1}" fill="rgba(var(--heat), {shade:.2f})">'
                    f"<title>{count:,} accesses</title></rect>"
                )


def _label(row: RangeAdvice) -> str:
    name = f" {row.name}" if row.name else ""
    label = f"{row.zone}{name}"
    return label if len(label) <= 44 else f"{label[:43]}…"


def _ranges(advice: Advice) -> Iterator[str]:
    yield "<h2>Ranges</h2>"
    for verdict in Verdict:
        found = [each for each in advice.ranges if each.verdict is verdict]
        yield f'<h3 class="{verdict}">{verdict}: {len(found):,}</h3>'
        for each in found:
            yield from _range(each, several=bool(advice.recordings))


def _range(each: RangeAdvice, *, several: bool) -> Iterator[str]:
    saves = "" if each.saves is None else f", saves {each.saves:,}"
    force = ", in force" if each.in_force else ""
    yield (
        f"<details><summary><code>{_text(each.zone)}</code> {_text(each.name or '')} "
        f'<span class="soft">{each.exits:,} exits ({each.share:.1%}){saves}{force}</span></summary>'
    )
    yield f"<p>{_text(evidence(each, several))}</p>"
    yield f"<p>{each.writes:,} writes, {each.reads:,} reads</p>"
    if each.waits_ns is not None:
        waits = each.waits_ns
        yield (
            f"<p>Until the next exit a write waits {duration(waits.p50)} (p50), "
            f"{duration(waits.p99)} (p99), {duration(waits.max)} (max):</p>"
        )
        shown = [n for n, count in enumerate(each.wait_bins) if count]
        if shown:
            bins = range(shown[0], shown[-1] + 1)
            height = _BAR * len(bins)
            yield from _svg(480, height, _histogram(each.wait_bins, bins), "Waits of the writes")
    yield "</details>"


def _histogram(counts: Sequence[int], bins: range) -> Iterator[str]:
    most = max(counts)
    for row, number in enumerate(bins):
        top, count = row * _BAR, counts[number]
        yield (
            f'<text x="92" y="{top + 10}" text-anchor="end" class="soft">'
            f"≤ {duration(1 << number)}</text>"
            f'<rect class="now" x="100" y="{top + 1}" width="{count / most * 280:.1f}" '
            f'height="{_BAR - 2}"/>'
            f'<text x="{104 + count / most * 280:.1f}" y="{top + 10}">{count:,}</text>'
        )
