"""An execution as text: a column for each thread, with source lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from coalesced.tools.litmus.explore import Event, Verdict

_WIDTH = 52
_GAP = 2


THREADS = tuple(f"thread{number}" for number in range(4))


def columns(verdict: Verdict, names: Sequence[str] = THREADS) -> str:
    """The steps of the wrong execution, each in its thread's column, and what is wrong."""
    threads = 1 + max((event.thread for event in verdict.events), default=0)
    head = "".join(f"{name:<{_WIDTH + _GAP}}" for name in names[:threads]).rstrip()
    lines = [head]
    for number, event in enumerate(verdict.events):
        indent = " " * (event.thread * (_WIDTH + _GAP))
        lines += textwrap.wrap(
            f"{number:>3} {_step(event)}",
            len(indent) + _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "      ",
        )
    return "\n".join([*lines, f"=> {_wrong(verdict)}"])


def one_line(verdict: Verdict, names: Sequence[str] = THREADS) -> Iterator[str]:
    """The steps of the wrong execution, each with its number and its thread."""
    for number, event in enumerate(verdict.events):
        yield f"{number} {names[event.thread]}: {_step(event)}"


def _step(event: Event) -> str:
    where = f"{PurePath(event.file).name}:{event.line}"
    if event.kind == "fence":
        return f"{where} {event.order} fence"
    if event.kind == "choose":
        return f"{where} chooses {event.value}"
    name = event.text.removeprefix("&")
    if event.kind == "store":
        return f"{where} {name} = {event.value:#x}, {event.order}"
    found = "the initial value" if event.from_ is None else f"of {event.from_}"
    return f"{where} {name}: finds {event.value:#x}, {found}, {event.order}"


def _wrong(verdict: Verdict) -> str:
    if not verdict.file:
        return verdict.wrong or ""
    return f"{PurePath(verdict.file).name}:{verdict.line}: not so: {verdict.wrong}"
