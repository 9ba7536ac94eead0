"""One side of a ring at full speed (drive.c), in the process of that side.

`ring`: 0 the user's, 1 the product's through the same functions, 2 the product's inlined.
"""

from typing_extensions import Buffer

def open(path: str, prefix: str, /) -> tuple[list[str], str | None]:
    """Load a shared object: the functions that it offers, and its claims. Raises OSError."""

def points() -> list[str]:
    """The named points that were passed since the last call; from now on they are noted."""

def arm(name: str, times: int, /) -> None:
    """Kill this process when it passes the point for that many times."""

def size(ring: int, entries: int, /) -> int:
    """Bytes of a ring that holds `entries`."""

def call(name: str, ring: int, memory: Buffer, argument: int, /) -> int:
    """The answer of init, attach, push, pop or wait."""

def run(
    producer: bool,
    ring: int,
    memory: Buffer,
    control: Buffer,
    seed: int,
    until: int,
    burst: int,
    pause: int,
    wait: int,
    strict: bool,
    /,
) -> int:
    """Push or pop until the entry numbered `until`, or the order to stop: 0, 1 when the ring
    refused its memory, 2 when it answered what it cannot."""
