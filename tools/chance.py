"""Random numbers by numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coalesced.hv import signals


def generator(seed: int | Sequence[object]) -> np.random.Generator:
    """A generator of random numbers; equal seeds give equal ones."""
    # The first use imports numpy.random, whose modules are made by Cython: these drop any exception
    # while they register with abc.Sequence, a Ctrl-C's too.
    with signals.held():
        return np.random.default_rng(seed)  # type: ignore[arg-type]
