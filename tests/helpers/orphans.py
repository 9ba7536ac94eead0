"""Orphans of a test's processes, which the test's process adopts as the stress test's own does."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def orphans_are_ours() -> Iterator[None]:
    """In each test of a module that imports this, orphans become this process's children."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
