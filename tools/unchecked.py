"""Which recorded loads cannot be expected to repeat: they depend on time, or on the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hv.abi import OP_IN

# Port: name of the register.
_PORTS = {
    0x71: "RTC data (0x71)",  # the time, and what the firmware was told of the host
    0x3BA: "VGA status 1 (0x3ba)",  # bits 0 and 3 follow the beam
    0x3DA: "VGA status 1 (0x3da)",
}


def time_dependent(ops: NDArray[np.void]) -> dict[str, NDArray[np.bool_]]:
    """Per register that depends on time: which of the accesses read it."""
    ports = ops["address"]
    is_in = ops["kind"] == OP_IN
    found = {}
    for port, name in _PORTS.items():
        mask = is_in & (ports <= port) & (ports + ops["size"] > port)
        if mask.any():
            found[name] = mask
    return found
