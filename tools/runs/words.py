"""Counts in words."""

from __future__ import annotations


def plural(count: int, what: str) -> str:
    """1 page, 2 pages; 1 access, 2 accesses."""
    ending = "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{ending * (count != 1)}"


def clause(count: int, what: str, verb: str, total: int | None = None) -> str:
    """1 write changes, 2 writes change; 1 of 2 reads gives, 2 of 2 reads give."""
    subject = plural(count, what) if total is None else f"{count:,} of {plural(total, what)}"
    return f"{subject} {verb}{'s' * (count == 1)}"
