"""A bar with the time left on stderr, and Ctrl-C that keeps what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


_shown: Progress | None = None  # one per program, while something is measured


class Progress:
    """Steps of several benchmarks on one bar, weighed with the seconds that each may take."""

    def __init__(self, bar: Bar, total: float) -> None:
        self.stopped = False  # Ctrl-C came
        self._bar = bar
        self._task: TaskID = bar.add_task("", total=total)

    def part(self, what: str, steps: int, seconds: float) -> Callable[[], None]:
        """What a benchmark of about so many seconds calls after each of its steps."""
        self._bar.update(self._task, description=what)

        def step() -> None:
            self._bar.advance(self._task, seconds / max(steps, 1))
            self._bar.refresh()

        return step


@contextmanager
def shown(seconds: float) -> Iterator[Progress]:
    """A bar over about so many seconds, on a terminal only; Ctrl-C meanwhile ends a `stopping`."""
    global _shown  # noqa: PLW0603
    from rich import progress  # noqa: PLC0415 - start-up time
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    # No thread that refreshes: it would run beside what is measured.
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
        speed_estimate_period=60,
    ) as bar:
        _shown = Progress(bar, seconds)
        try:
            yield _shown
        finally:
            _shown = None


@contextmanager
def stopping() -> Iterator[None]:
    """Let Ctrl-C end what is within, and keep it in mind, where a report will come of it."""
    try:
        yield
    except KeyboardInterrupt:
        if _shown is None:
            raise
        _shown.stopped = True


def stopped() -> bool:
    """Has Ctrl-C come?"""
    return _shown is not None and _shown.stopped
