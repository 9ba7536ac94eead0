"""Text from elsewhere, as a terminal may show it."""

from __future__ import annotations

from typing import Final

_LINES: Final = "\n\t"


def printable(text: str, keep: str = "") -> str:
    """The text with every control and formatting character but those of `keep` written out.

    A guest, a file's name or a trace must not move the cursor, rename the window or hide what
    follows: an escape character becomes the four characters of \\x1b.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def printable_lines(text: str) -> str:
    """The same for text of several lines, with tabs."""
    return printable(text, _LINES)
