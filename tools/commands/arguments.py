"""Command lines before they are parsed: an option whose value may be missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

OPTION: Final = "--no-coalesce"
RANGE_OPTION: Final = "--no-coalesce-range"
# A range, or something that was meant as one; not the name of a guest, a trace or a demonstration.
_RANGE: Final = re.compile(r"pio:.*|-?[0-9][0-9A-Za-z_]*(\+.*)?|[0-9A-Za-z_]*\+[0-9A-Za-z_]*")


def split(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--no-coalesce RANGE` as an option of its own; it may stand alone."""
    found: list[str] = []
    for number, each in enumerate(arguments):
        if each == "--":
            return [*found, *arguments[number:]]
        if found and found[-1] == OPTION and _RANGE.fullmatch(each):
            found[-1] = f"{RANGE_OPTION}={each}"
        elif each.startswith(f"{OPTION}="):
            found.append(RANGE_OPTION + each.removeprefix(OPTION))
        else:
            found.append(each)
    return found
