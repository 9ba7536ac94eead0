"""An execution as a picture: a column for each thread, an arrow from each store to its loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus.explore import Event, Verdict
from coalesced.tools.litmus.witness import THREADS, described, wrong

_COLUMN = 740
_ROW = 40
_TOP = 50
_LEFT = 10
_BOX = _COLUMN - 60  # the rest is room for the arrows
_FILLS = {"load": "#e8f0fe", "store": "#fef3e0", "fence": "#eeeeee", "choose": "#eeeeee"}
_STYLE = """
text { font: 13px monospace; fill: #222 } .head { font-weight: bold } .source { fill: #777 }
.wrong { font-weight: bold; fill: #c00 } rect { stroke: #bbb }
path { fill: none; stroke: #36c; stroke-width: 1.5; marker-end: url(#tip) }
.tip { fill: #36c; stroke: none; marker-end: none }
"""


def write(verdict: Verdict, file: Path, names: Sequence[str] = THREADS) -> None:
    """Write the wrong execution of a verdict to an SVG file. Raises BadInput if it cannot."""
    try:
        file.write_text(drawn(verdict, names))
    except OSError as error:
        raise BadInput(f"--svg {file}: {error.strerror}") from None


def drawn(verdict: Verdict, names: Sequence[str] = THREADS) -> str:
    """The text of the SVG file."""
    threads = 1 + max((event.thread for event in verdict.events), default=0)
    height = _TOP + _ROW * (len(verdict.events) + 1)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + threads * _COLUMN}" '
            f'height="{height}">',
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" '
            'orient="auto"><path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>',
            '<rect width="100%" height="100%" fill="white"/>',
            *(_text(_x(n), _TOP - 20, names[n], "head") for n in range(threads)),
            *(line for n, event in enumerate(verdict.events) for line in _step(n, event)),
            *_arrows(verdict.events),
            _text(_LEFT, height - 15, wrong(verdict), "wrong"),
            "</svg>\n",
        ]
    )


def _step(number: int, event: Event) -> Iterator[str]:
    x, y = _x(event.thread), _y(number)
    fill = _FILLS[event.kind]
    yield f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_ROW - 4}" rx="4" fill="{fill}"/>'
    yield _text(x + 6, y + 15, f"{number} {described(event)}", "step")
    yield _text(x + 6, y + 30, event.source, "source")


def _arrows(events: Sequence[Event]) -> Iterator[str]:
    """Around the boxes where both steps are in one column, straight from column to column else."""
    for number, event in enumerate(events):
        if event.from_ is None:
            continue
        store = events[event.from_].thread
        a, b = _y(event.from_) + _ROW // 2, _y(number) + _ROW // 2
        right = _x(store) + _BOX
        if store == event.thread:
            yield f'<path d="M{right} {a} C{right + 30} {a} {right + 30} {b} {right} {b}"/>'
        elif store < event.thread:
            yield f'<path d="M{right} {a} L{_x(event.thread)} {b}"/>'
        else:
            yield f'<path d="M{_x(store)} {a} L{_x(event.thread) + _BOX} {b}"/>'


def _x(thread: int) -> int:
    return _LEFT + thread * _COLUMN


def _y(number: int) -> int:
    return _TOP + _ROW * number


def _text(x: int, y: int, text: str, kind: str) -> str:
    longest = (_BOX - 12) // 8
    cut = text if kind in ("head", "wrong") or len(text) <= longest else f"{text[: longest - 1]}…"
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(cut)}</text>'
