"""Variants of hv.core that the product never loads: one thing wrong, or with injection points.

Each is an extension of its own, built from the same sources (`whole.h`).
"""

from __future__ import annotations

import importlib
import sys

import coalesced.hv

# --break: the names that `coalesced litmus` calls the removed barriers by.
BREAKS = (
    "release-last",
    "acquire-last",
    "release-first",
    "acquire-first",
    "wakeup-fence",
    "full-check-2009",
    "double-read",
)
INJECTED = "injected"


def use(variant: str) -> None:
    """Let the variant be hv.core in this process and in those that it forks.

    Raises RuntimeError when hv.core is loaded already.
    """
    if "coalesced.hv.core" in sys.modules:
        raise RuntimeError(f"coalesced.hv.core is loaded already, {variant} cannot take its place")
    module = importlib.import_module(f"{__name__}.{variant.replace('-', '_')}")
    sys.modules["coalesced.hv.core"] = module
    coalesced.hv.core = module
