"""Standard output and standard error that name themselves in errors and print any text."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import IO

_NAMES = {1: "standard output", 2: "standard error"}
_ESCAPES = "text that any encoding takes"  # the name of the error handler below
# Replacements for the characters beyond ASCII in help and tables; others are escaped.
_PLAIN = str.maketrans(
    {"·": "-", "…": "...", "×": "x", "µ": "u", "–": "-", "—": "-", "“": '"', "”": '"', "’": "'"}
)


class _Stream(io.FileIO):
    """A standard stream. The first write that fails raises with the stream's name as file name.

    From then on the descriptor is /dev/null, so that the rest of the buffer does not fail again.
    """

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            number = self.fileno()
            error.filename = _NAMES[number]
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
            raise


def open_standard() -> None:
    """Make sys.stdout and sys.stderr such streams.

    A descriptor that was closed before the start is opened, so that no other file gets its number:
    standard output then refuses every write, standard error discards it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    codecs.register_error(_ESCAPES, _escape)
    sys.stdout = _opened(1, sys.stdout, sys.__stdout__)
    sys.stderr = _opened(2, sys.stderr, sys.__stderr__)


def _opened(number: int, now: IO[str] | None, first: IO[str] | None) -> IO[str]:
    if now is not first and now is not None:
        return now  # a replacement that captures the output
    stream = io.BufferedWriter(_Stream(number, "w", closefd=False))
    given = now if isinstance(now, io.TextIOWrapper) else None
    at_once = number == 2 or (given is not None and (given.write_through or given.line_buffering))
    return io.TextIOWrapper(
        stream,
        encoding=given.encoding if given else None,
        errors=_ESCAPES,
        line_buffering=at_once or os.isatty(number),
    )


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that the encoding lacks, by ASCII look-alikes or by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    return plain.encode("ascii", "backslashreplace").decode(), error.end
