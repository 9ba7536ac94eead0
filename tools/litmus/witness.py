"""An execution as text: a column for each thread, with source lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from coalesced.tools.litmus.explore import Event, Verdict

THREADS = tuple(f"thread{number}" for number in range(4))
_WIDTH = 52
_GAP = 2


def columns(verdict: Verdict, names: Sequence[str] = THREADS) -> str:
    """The steps of the wrong execution, each in its thread's column, and the failed check."""
    threads = 1 + max((event.thread for event in verdict.events), default=0)
    head = "".join(f"{name:<{_WIDTH + _GAP}}" for name in names[:threads]).rstrip()
    lines = [head]
    for number, event in enumerate(verdict.events):
        lines += _wrapped(event.thread, f"{number:>3} ", described(event))
        lines += _wrapped(event.thread, "    | ", event.source)
    return "\n".join([*lines, f"=> {wrong(verdict)}"])


def _wrapped(thread: int, start: str, text: str) -> list[str]:
    indent = " " * (thread * (_WIDTH + _GAP))
    lines = textwrap.wrap(
        text, _WIDTH, break_on_hyphens=False, initial_indent=start, subsequent_indent="      "
    )
    return [indent + line for line in lines]


def one_line(verdict: Verdict, names: Sequence[str] = THREADS) -> Iterator[str]:
    """The steps of the wrong execution, each with its number and its thread."""
    for number, event in enumerate(verdict.events):
        yield f"{number} {names[event.thread]}: {described(event)}"


def described(event: Event) -> str:
    """The action of a step, and its place in the source."""
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


def wrong(verdict: Verdict) -> str:
    """The check that fails, and its line."""
    if not verdict.file:
        return verdict.wrong or ""
    return f"{PurePath(verdict.file).name}:{verdict.line}: not so: {verdict.wrong}"
