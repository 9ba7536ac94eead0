"""Finds the events of a trace in a block of text (scan.c)."""

from typing import Any

from numpy.typing import NDArray

def scan(
    block: bytes, patterns: tuple[tuple[int, str, str], ...], out: NDArray[Any], /
) -> tuple[int, int, int, int, int, int]:
    """Write an `events.EVENT` for each line that matches a pattern.

    A pattern is a kind, the text at which the event begins, and the rest of it with fields. `out`
    has room for an event per line; `line` counts from 0. Returns the numbers of events, of lines
    and of other lines that are not blank, and of the first such line its index, start and end.
    Raises ValueError for more than 32 patterns.
    """
