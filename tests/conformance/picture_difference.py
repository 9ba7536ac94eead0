"""A line in the table of deliberate differences between pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from conformance_script import Script
from picture_reference import Picture


def _as_it_is(picture: Picture) -> Picture:
    return picture


class Difference(NamedTuple):
    """A script whose picture is the chip's and not QEMU's."""

    script: Script
    registers: str
    theirs: str
    chips: str
    source: str
    like: tuple[Script, ...]
    """Scripts of which QEMU shows what the chip shows of `script` ..."""
    change: Callable[..., Picture] = _as_it_is
    """... once this has put their pictures together."""
    frame: int = 0


class Absent(NamedTuple):
    """Registers that have an effect on the chip, but neither in QEMU nor here."""

    registers: str
    chips: str
    here: str
    source: str
