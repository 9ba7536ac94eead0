"""An execution as text."""

from __future__ import annotations

import textwrap

from coalesced.tools.litmus.access import Access, Program
from coalesced.tools.litmus.explore import Event, Result

_WIDTH = 46
_GAP = 3


def one_line(program: Program, event: Event) -> str:
    """The side, its access, the value found, and the accesses of that side that it overtook."""
    return f"{program.threads[event.thread].side}: {_what(program, event)}"


def columns(program: Program, result: Result) -> str:
    """The witness with a column for each side, and what is wrong at its end."""
    lines = ["".join(f"{thread.side:<{_WIDTH + _GAP}}" for thread in program.threads).rstrip()]
    for event in result.witness:
        indent = " " * (event.thread * (_WIDTH + _GAP))
        lines += textwrap.wrap(
            _what(program, event),
            len(indent) + _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "     ",
        )
    return "\n".join([*lines, f"=> {result.wrong}"])


def _what(program: Program, event: Event) -> str:
    access = event.access
    text = f"{access.step:<3} {access.text}{access.where and ', '}{access.where}"
    if access.kind == "load":
        text += f": sees {program.name(access.place, event.found)}"
        if access.legal not in (None, event.found):
            text += f" instead of {program.name(access.place, access.legal or 0)}"
        if event.buffered:
            text += ", its own store, not in memory yet"
    if event.overtaken:
        text += f" (before its own {'; '.join(dict.fromkeys(map(_brief, event.overtaken)))})"
    return text


def _brief(access: Access) -> str:
    return f"{access.step} {access.text}".strip()
