"""Repetitions, taken in turns, so that what disturbs one figure disturbs the others as well."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

Step = Callable[[], None]


class Spread(NamedTuple):
    """A figure over its repetitions, all three in its unit."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(samples: Sequence[float]) -> Spread:
    """Median, least and greatest of at least one sample."""
    return Spread(statistics.median(samples), min(samples), max(samples))


def interleaved(
    subjects: Mapping[str, Callable[[], float]], repetitions: int, step: Step
) -> dict[str, Spread]:
    """Measure each subject `repetitions` times, in rounds over all, after a round that warms up.

    A subject returns one sample. `step` is called after each, `rounds(repetitions)` times per
    subject.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds(repetitions)):
        for name, measure in subjects.items():
            sample = measure()
            if number:
                samples[name].append(sample)
            step()
    return {name: spread(taken) for name, taken in samples.items()}


def rounds(repetitions: int) -> int:
    """Rounds that so many repetitions take, the one that warms up included."""
    return repetitions + 1


@contextmanager
def progress(what: str, steps: int) -> Iterator[Step]:
    """A bar on stderr while something is measured, on a terminal only; call what it gives."""
    from rich.console import Console  # noqa: PLC0415 - start-up time
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    # No thread that refreshes: it would run beside what is measured.
    with Progress(
        console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=steps)

        def step() -> None:
            bar.advance(task)
            bar.refresh()

        yield step
