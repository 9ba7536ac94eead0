"""A progress bar on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A bar that is redrawn when it moves. Without a terminal it does nothing."""

    def __init__(self, progress: Progress | None, total: float) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None

    def advance(self, amount: float = 1) -> None:
        """Move by `amount`."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)
            self._progress.refresh()

    def show(self, text: str, done: float | None = None) -> None:
        """Show a text beside the bar, and move to `done`."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=done)
            self._progress.refresh()


@contextmanager
def shown(total: float) -> Iterator[Bar]:
    """A bar over `total`, with the time left; it disappears at the end.

    It has no thread: none disturbs a measurement, and the process may fork.
    """
    if not sys.stderr.isatty():
        yield Bar(None, total)
        return
    from rich import progress  # noqa: PLC0415 - start-up time
    from rich.console import Console  # noqa: PLC0415

    with progress.Progress(
        *progress.Progress.get_default_columns(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        speed_estimate_period=60,
    ) as bar:
        yield Bar(bar, total)
