"""All picture scripts."""

from __future__ import annotations

import picture_vga
from conformance_script import Script

SCRIPTS: tuple[Script, ...] = (*picture_vga.SCRIPTS,)
