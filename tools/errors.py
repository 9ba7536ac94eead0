"""Exceptions that end a command early, and warnings, after which it continues."""

import sys

from coalesced.hv.printable import printable_lines

show_frames = False  # --traceback


class BadInput(Exception):
    """The user's input cannot be used; the text is one line that says which and why."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the text is one line about the progress that the command had made."""


def warn(line: str) -> None:
    """Write one line to stderr; the command continues."""
    sys.stderr.write(f"coalesced: {printable_lines(line)}\n")
    sys.stderr.flush()
