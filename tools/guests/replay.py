"""A guest that executes a recorded list of bus operations."""

from __future__ import annotations

from typing import Final

import numpy as np

from coalesced.hv.abi import OP
from coalesced.hv.vcpu import Vcpu

PROGRAM: Final = 1 << 40  # guest-physical; RAM that is not part of the machine's own


def run(vcpu: Vcpu, count: int) -> None:
    """Run the `count` operations (`hv.abi.OP`) at PROGRAM and leave their results there."""
    ops = np.frombuffer(vcpu.read_memory(PROGRAM, count * OP.itemsize), dtype=OP)
    vcpu.execute(ops)
    vcpu.write_memory(PROGRAM, ops.tobytes())
