"""The formats of recordings: a file for each, and a line in FORMATS."""

from __future__ import annotations

from typing import Final

from coalesced.tools.traces.formats import kvm, mmiotrace, qemu, simpletrace
from coalesced.tools.traces.formats.base import Format

__all__ = ["FORMATS", "Format"]

FORMATS: Final[tuple[Format, ...]] = (
    qemu.FORMAT,
    simpletrace.FORMAT,
    kvm.FORMAT,
    mmiotrace.FORMAT,
)
