"""Counts in words."""

from __future__ import annotations


def plural(count: int, what: str) -> str:
    """1 page, 2 pages; 1 access, 2 accesses."""
    ending = "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{ending * (count != 1)}"
