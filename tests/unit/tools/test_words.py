"""Counts in words: singular and plural, of noun and verb."""

from __future__ import annotations

import pytest

from coalesced.tools.runs.words import clause, plural


@pytest.mark.parametrize(
    ("count", "what", "said"),
    [(0, "page", "0 pages"), (1, "access", "1 access"), (2000, "access", "2,000 accesses")],
)
def test_a_noun_follows_its_count(count: int, what: str, said: str) -> None:
    assert plural(count, what) == said


@pytest.mark.parametrize(
    ("count", "total", "said"),
    [
        (1, None, "1 read gives"),
        (2, None, "2 reads give"),
        (1, 2, "1 of 2 reads gives"),
        (1, 1, "1 of 1 read gives"),
        (2, 2, "2 of 2 reads give"),
    ],
)
def test_a_verb_follows_the_count_and_a_noun_the_total(
    count: int, total: int | None, said: str
) -> None:
    assert clause(count, "read", "give", total) == said
