"""All picture scripts."""

from __future__ import annotations

import picture_cirrus
import picture_vbe
import picture_vga
from conformance_script import Script
from picture_differences import DIFFERENCES

ALIKE: tuple[Script, ...] = (
    *picture_vga.SCRIPTS,
    *picture_vbe.SCRIPTS,
    *picture_cirrus.SCRIPTS,
)
"""Those of which QEMU's picture and ours are the same."""


def _all() -> tuple[Script, ...]:
    scripts = list(ALIKE)
    for difference in DIFFERENCES:
        scripts += [difference.script, *difference.like]
    return tuple({script.name: script for script in scripts}.values())


SCRIPTS: tuple[Script, ...] = _all()
"""These, those that differ on purpose, and those that show how."""
