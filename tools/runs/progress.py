"""A progress bar on stderr, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

INTERVAL = 0.1  # seconds between two pictures


class Bar:
    """A bar that is redrawn when it moves, ten times a second at most.

    Without a terminal it does nothing.
    """

    def __init__(self, progress: Progress | None, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None
        self._began = time.monotonic()
        self._redrawn = 0.0

    def advance(self, amount: float = 1) -> None:
        """Move by `amount`."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)
            self._redraw()

    def show(self, text: str, done: float | None = None) -> None:
        """Show a text beside the bar, and move to `done`."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=done)
            self._redraw()

    def show_rate(self, text: str, done: float, unit: str, size: float) -> None:
        """Show a text, and how many units of this size were done in a second; move to `done`."""
        rate = done / size / max(time.monotonic() - self._began, 1e-3)
        self.show(f"{text}, {rate:,.0f} {unit}/s", done)

    def _redraw(self) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._redrawn >= INTERVAL:
            self._redrawn = now
            self._progress.refresh()


@contextmanager
def shown(total: float | None) -> Iterator[Bar]:
    """A bar over `total`, with the time left; it disappears at the end. None: nobody knows.

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
