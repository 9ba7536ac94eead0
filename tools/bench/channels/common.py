"""The parts that all channels share."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable
from types import ModuleType
from typing import Any

from coalesced.tools.bench.peers import Unavailable


def context() -> Any:
    """Of multiprocessing, for a process that begins anew."""
    return multiprocessing.get_context("spawn")


def module(name: str) -> ModuleType:
    """An optional library. Raises Unavailable."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"not installed ({error}); pip install 'coalesced-mmio[bench]'") from None


def repeat(take: Callable[[], object], times: int) -> None:
    """Call a function repeatedly."""
    for _ in range(times):
        take()
