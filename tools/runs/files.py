"""Reading the files that a boot is given."""

from __future__ import annotations

from pathlib import Path

from coalesced.tools.errors import BadInput


def read(path: Path, most: int, what: str = "") -> bytes:
    """The contents, 1 byte to `most` MiB; `what` they are, for the error. Raises BadInput."""
    try:
        with path.open("rb") as file:
            contents = file.read((most << 20) + 1)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    if not contents or len(contents) > most << 20:
        raise BadInput(f"{path}: expected 1 byte to {most} MiB{what}")
    return contents
