"""Command lines before they are parsed: options whose value may be missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

RANGE_OPTION: Final = "--no-coalesce-range"
COUNT_OPTION: Final = "--explain-first"
# By the option that may stand alone: the option with a value, and the texts that are meant as one;
# not the name of a guest, a trace or a demonstration.
_VALUED: Final = {
    "--no-coalesce": (
        RANGE_OPTION,
        re.compile(r"pio:.*|-?[0-9][0-9A-Za-z_]*(\+.*)?|[0-9A-Za-z_]*\+[0-9A-Za-z_]*"),
    ),
    "--explain": (COUNT_OPTION, re.compile(r"-?[0-9]+")),
}


def split(arguments: Sequence[str]) -> list[str]:
    """The arguments, each option that has its value as the option with a value."""
    found: list[str] = []
    for number, each in enumerate(arguments):
        if each == "--":
            return [*found, *arguments[number:]]
        valued, value = _VALUED.get(found[-1] if found else "", ("", None))
        name, equals, rest = each.partition("=")
        if value is not None and value.fullmatch(each):
            found[-1] = f"{valued}={each}"
        elif equals and name in _VALUED:
            found.append(f"{_VALUED[name][0]}={rest}")
        else:
            found.append(each)
    return found
