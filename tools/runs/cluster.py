"""A Dask cluster, for work that its workers share."""

from __future__ import annotations

import importlib
from typing import Any

from coalesced.tools.errors import BadInput

CONNECT = 10.0  # seconds in which the scheduler must answer


def client(address: str, connect: float = CONNECT) -> Any:
    """A client of the scheduler. Raises BadInput without Dask or without a scheduler there."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise BadInput(
            f"--scheduler: not installed ({error}); pip install 'coalesced-mmio[cluster]'"
        ) from None
    if not address.rpartition(":")[
        2
    ].isdecimal():  # Dask would look for 20 s, and print a traceback
        raise BadInput(f"--scheduler {address}: no scheduler answers: expected tcp://HOST:PORT")
    try:
        return distributed.Client(address, timeout=connect, set_as_default=False)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"--scheduler {address}: no scheduler answers: {said}") from None
