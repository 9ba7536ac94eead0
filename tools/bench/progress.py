"""The progress of several benchmarks on one bar; Ctrl-C keeps what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coalesced.tools.runs import progress

_shown: Progress | None = None  # one per program, while something is measured


class Progress:
    """Steps of several benchmarks, each weighted with its duration in seconds."""

    def __init__(self, bar: progress.Bar) -> None:
        self.stopped = False  # by Ctrl-C
        self._bar = bar

    def part(self, name: str, steps: int, seconds: float) -> Callable[[], None]:
        """The function that a benchmark of about `seconds` calls after each of its steps."""
        self._bar.show(name)
        return lambda: self._bar.advance(seconds / max(steps, 1))


@contextmanager
def shown(seconds: float) -> Iterator[Progress]:
    """Show a bar over about `seconds`; within, Ctrl-C ends what `stopping` guards."""
    global _shown  # noqa: PLW0603
    with progress.shown(seconds) as bar:
        _shown = Progress(bar)
        try:
            yield _shown
        finally:
            _shown = None


@contextmanager
def stopping() -> Iterator[None]:
    """End the block at Ctrl-C and note it; outside `shown`, let it pass."""
    try:
        yield
    except KeyboardInterrupt:
        if _shown is None:
            raise
        _shown.stopped = True


def stopped() -> bool:
    """Whether Ctrl-C has ended a block."""
    return _shown is not None and _shown.stopped
