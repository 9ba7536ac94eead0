"""Where a picture is the chip's and not QEMU's, on purpose.

Write the document of them anew after the table has changed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/picture_differences.py
"""

from __future__ import annotations

from pathlib import Path

import picture_cirrus_differences
import picture_vbe_differences
import picture_vga_differences
from picture_difference import Absent, Difference

DIFFERENCES: tuple[Difference, ...] = (
    *picture_vga_differences.DIFFERENCES,
    *picture_vbe_differences.DIFFERENCES,
    *picture_cirrus_differences.DIFFERENCES,
)
ABSENT: tuple[Absent, ...] = (
    *picture_vga_differences.ABSENT,
    *picture_cirrus_differences.ABSENT,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"

_HEAD = """\
# Pictures that are the chip's and not QEMU's

QEMU 7.2 leaves out part of what the chip does between memory and monitor. Where the two disagree
the picture here is the chip's. For each line a test holds that QEMU shows something else for the
script, and that the picture here is the one that QEMU shows when the guest asks in another way for
what the chip shows.

Sources, with section or page: "5446" is Cirrus Logic's CL-GD5446 Technical Reference Manual, 1996,
whose chapter 4 describes a VGA's registers; "FreeVGA" is J. D. Neal's Hardware Level VGA and SVGA
Video Programming Information Page, which quotes IBM's manual. What QEMU shows is measured; "no
document" says that none was found, and why the picture is so.

| script | registers | QEMU shows | the chip shows | source |
|---|---|---|---|---|
"""

_ABSENT_HEAD = """
# Absent from the picture

These have an effect on the chip, but neither in QEMU nor here.

| registers | on the chip | here | source |
|---|---|---|---|
"""


def document() -> str:
    """Both tables as a page."""
    rows = (
        f"| `{row.script.name}` | {row.registers} | {row.theirs} | {row.chips} | {row.source} |\n"
        for row in DIFFERENCES
    )
    absent = (f"| {row.registers} | {row.chips} | {row.here} | {row.source} |\n" for row in ABSENT)
    return _HEAD + "".join(rows) + _ABSENT_HEAD + "".join(absent)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
