"""Which recorded loads cannot be expected to repeat: they depend on time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hv.abi import OP_IN

# Port: name of the register. Bits 0 and 3 follow the beam.
_VGA_STATUS_1 = {0x3BA: "VGA status 1 (0x3ba)", 0x3DA: "VGA status 1 (0x3da)"}


def time_dependent(ops: NDArray[np.void]) -> dict[str, NDArray[np.bool_]]:
    """Per register that depends on time: which of the accesses read it."""
    ports = ops["address"]
    is_in = ops["kind"] == OP_IN
    found = {}
    for port, name in _VGA_STATUS_1.items():
        mask = is_in & (ports <= port) & (ports + ops["size"] > port)
        if mask.any():
            found[name] = mask
    return found
