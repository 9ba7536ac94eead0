"""What ends a command early, and what it goes on after."""

import sys

from coalesced.hv.printable import printable_lines

show_frames = False  # --traceback


class BadInput(Exception):
    """The user gave what cannot be used; the text is one line that says what and why."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the text is one line about how far the command had come."""


def warn(line: str) -> None:
    """Tell the user of something that goes wrong while the command goes on."""
    sys.stderr.write(f"coalesced: {printable_lines(line)}\n")
    sys.stderr.flush()
