"""Measures the cost of an exit with the options of a run, which a queued write saves."""

from __future__ import annotations

from functools import cache
from typing import Final

from coalesced.devices.bus.region import Region
from coalesced.tools.guests import bench as guest
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.runner import accelerator
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.machine import Machine

_EXITS: Final = 2000


@cache
def exit_seconds(wait: str, cpus: str) -> float:
    """Seconds of an exit to a device that does nothing, the mean of 2,000, measured once.

    Starts and ends a guest process of its own; raises HostError.
    """
    command = guest.PROBE << 32 | _EXITS
    probe = Region(
        "probe",
        guest.REGISTERS_SIZE,
        lambda offset, _size: 0 if offset else command,
        lambda *_: None,
    )
    options = RunOptions(wait=wait, cpus=cpus)
    with Machine(accelerator(options, lambda *_: [Recording([])], False)) as machine:
        machine.memory.map(probe, guest.CONTROL)
        machine.run(f"{guest.__name__}:exits")
        return machine.seconds / _EXITS
