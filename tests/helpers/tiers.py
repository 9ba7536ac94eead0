"""Parameters of which some are run by `make test`, and the others by the heavy tests alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def some_heavy(
    names: str, rows: Iterable[Sequence[Any]], light: Callable[..., bool]
) -> pytest.MarkDecorator:
    """Parametrize with rows of values; those for which `light` is false are heavy."""
    marked = [pytest.param(*row, marks=[] if light(*row) else [pytest.mark.heavy]) for row in rows]
    return pytest.mark.parametrize(names, marked, ids=_words)


def every(*values: Iterable[Any]) -> Iterable[Sequence[Any]]:
    """A row for each combination."""
    return itertools.product(*values)


def _words(value: object) -> str | None:
    """The name of a command; pytest names the rest."""
    return " ".join(value) if isinstance(value, list) else None
