"""Escaping text from guests, files and traces for a terminal."""

from __future__ import annotations

import io
from typing import Final, TextIO, cast

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


class _Stream(io.TextIOBase):
    """Passes text on as `printable_lines`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str, /) -> int:
        """Write some text; how much of it, which is all."""
        self._out.write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind it."""
        self._out.flush()

    def fileno(self) -> int:
        """The descriptor behind it."""
        return self._out.fileno()

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return self._out.isatty()

    @property
    def buffer(self) -> object:
        """The binary stream behind it, which nothing escapes."""
        return getattr(self._out, "buffer", None)


def printable_stream(out: TextIO) -> TextIO:
    """A stream for a guest's output, which it passes to `out` as `printable_lines`."""
    return cast("TextIO", _Stream(out))
