"""Variants of hv.core that replace it under `coalesced stress`: broken, or with injection points.

Each is an extension of its own, built from the same sources (`whole.h`).
"""

from __future__ import annotations

import importlib
import sys

import coalesced.hv
from coalesced.tools.stress.cores.broken import module_of
from coalesced.tools.stress.wanted import Wanted

INJECTED = "injected"


def use_for(wanted: Wanted) -> None:
    """Replace hv.core by the variant that a stress run needs, if it needs one."""
    if wanted.broken or wanted.kill:
        use(wanted.broken or INJECTED)


def use(variant: str) -> None:
    """Replace hv.core by the variant in this process and in those that it forks.

    Raises RuntimeError when hv.core is already loaded.
    """
    if "coalesced.hv.core" in sys.modules:
        raise RuntimeError(f"coalesced.hv.core is already loaded: {variant} cannot replace it")
    module = importlib.import_module(f"{__name__}.{module_of(variant)}")
    sys.modules["coalesced.hv.core"] = module
    coalesced.hv.core = module
