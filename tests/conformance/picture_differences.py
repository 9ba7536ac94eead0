"""The pictures that differ from QEMU's on purpose, because the chip's do.

After a change of the table, write the document anew:

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
# Pictures that differ from QEMU's

QEMU 7.2 leaves out part of what the chip does between memory and monitor. Where the two disagree,
this program draws the chip's picture. For each line a test checks that QEMU shows something else
for the script. It also checks that the picture here is the one that QEMU shows when the guest asks
for the chip's effect in another way.

Sources, with section or page: "5446" is Cirrus Logic's CL-GD5446 Technical Reference Manual, 1996,
whose chapter 4 describes a VGA's registers; "FreeVGA" is J. D. Neal's Hardware Level VGA and SVGA
Video Programming Information Page, which quotes IBM's manual. QEMU's pictures are measured. "No
document" means that none was found; the reason for the picture follows.

| script | registers | QEMU shows | the chip shows | source |
|---|---|---|---|---|
"""

_ABSENT_HEAD = """
## Absent from the picture

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
