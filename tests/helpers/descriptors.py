"""The open descriptors of this process: a test asks which of them are new."""

from __future__ import annotations

import gc
import os
from contextlib import suppress


def descriptors(*, collect: bool = True) -> set[str]:
    """Number and file of each, as in '3 pipe:[4711]'.

    What earlier tests dropped may be closed at any time: compare with `descriptors() - before`.
    `collect`: close what nothing refers to any more, which takes a tenth of a second.
    """
    if collect:
        gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found
