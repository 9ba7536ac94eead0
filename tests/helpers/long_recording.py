"""Makes long recordings: a real one again and again, each time later."""

from __future__ import annotations

import re
from pathlib import Path

from coalesced.tools.traces import source

_TIME = re.compile(rb"(\d+)\.(\d{6}):")


def repeated(recorded: Path, into: Path, size: int) -> int:
    """Write at least `size` bytes of text; returns the number of repetitions."""
    text = b"".join(source.blocks(recorded, source.ENDLESS))
    pieces = _TIME.split(text)
    rest = pieces[::3]
    times = [int(s + us) for s, us in zip(pieces[1::3], pieces[2::3], strict=True)]
    span = times[-1] - times[0] + 1000
    count = -(-size // len(text))
    with into.open("wb") as file:
        for number in range(count):
            shift = number * span
            file.write(
                b"".join(
                    b"%b%d.%06d:" % (before, *divmod(time + shift, 1_000_000))
                    for before, time in zip(rest[:-1], times, strict=True)
                )
                + rest[-1]
            )
    return count
