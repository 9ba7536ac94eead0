"""Standard streams for a process that is forked by a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def own_streams() -> Iterator[None]:
    """Pytest's write to a descriptor that a forked guest process closes."""
    with (
        open(1, "w", closefd=False) as out,
        open(2, "w", closefd=False) as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        yield
