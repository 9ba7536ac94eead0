"""Where a picture is the chip's and not QEMU's, on purpose.

Write the document of them anew after the table has changed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/picture_differences.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from picture_reference import Picture


def _as_it_is(picture: Picture) -> Picture:
    return picture


class Difference(NamedTuple):
    """A script whose picture is not QEMU's."""

    script: str
    registers: str
    theirs: str
    chips: str
    source: str
    like: str
    """The script of which QEMU shows what the chip shows of `script` ..."""
    change: Callable[[Picture], Picture] = _as_it_is
    """... after this change."""
    frame: int = 0


DIFFERENCES: tuple[Difference, ...] = ()

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"

_HEAD = """\
# Pictures that are the chip's and not QEMU's

QEMU 7.2 leaves out part of what the chip does between memory and monitor. Where the two disagree
the picture here is the chip's. A test holds each line: QEMU's picture of the script is another
than ours, and ours is QEMU's of a second script that says in QEMU's way what the chip shows.

| script | registers | QEMU shows | the chip shows | source |
|---|---|---|---|---|
"""


def document() -> str:
    """The table as a page."""
    rows = (
        f"| `{row.script}` | {row.registers} | {row.theirs} | {row.chips} | {row.source} |\n"
        for row in DIFFERENCES
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
