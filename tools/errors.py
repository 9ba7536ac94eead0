"""What the command line answers with exit status 2, and what it goes on after."""

import sys

from hv.printable import printable_lines


class BadInput(Exception):
    """The user gave what cannot be used; the text is one line that says what and why."""


def warn(line: str) -> None:
    """Tell the user of something that goes wrong while the command goes on."""
    sys.stderr.write(f"coalesced: {printable_lines(line)}\n")
    sys.stderr.flush()
