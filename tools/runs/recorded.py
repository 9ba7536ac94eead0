"""Guests that are recorded first and then run as machine code, and what their loads gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN
from coalesced.tools.traces import unchecked
from coalesced.tools.traces.tracefile import Trace
from coalesced.vmm.accel.kvm import KvmAccelerator, Recorder
from coalesced.vmm.accel.recording import Recording, RecordingAccelerator
from coalesced.vmm.machine import Machine

BoardT = TypeVar("BoardT")

MISMATCHES_SHOWN = 10


class Twin(Protocol):
    """How to build the machine once more: a `tools.runs.runner.Job`."""

    @property
    def build(self) -> Callable[[Machine], Any]: ...
    @property
    def write_rom(self) -> Callable[[Machine, Any], None]: ...


def recorder(job: Twin) -> Recorder:
    """What runs a guest on `direct`, on a machine like the job's, and writes down what it does."""

    def record(guest: str, arguments: Mapping[str, object]) -> Recording:
        accel = RecordingAccelerator()
        with Machine(accel) as machine:
            job.write_rom(machine, job.build(machine))
            machine.run(guest, arguments)
        return accel.recording

    return record


def once(record: Recorder) -> Recorder:
    """A recorder that records each guest once."""
    recorded: list[tuple[str, Mapping[str, object], Recording]] = []

    def remembered(guest: str, arguments: Mapping[str, object]) -> Recording:
        for name, given, recording in recorded:
            if (name, given) == (guest, arguments):
                return recording
        recorded.append((guest, arguments, record(guest, arguments)))
        return recorded[-1][2]

    return remembered


def check_loads(machine: Machine, accel: KvmAccelerator) -> dict[str, object]:
    """Hold what the guest's loads gave against the recording, as far as time does not matter.

    `load_mismatches`: the first ten; `copies_differing_bytes`: what `read_memory` gave.
    """
    loads, got = accel.loads()
    recorded = _as_trace(machine, loads)
    checked = np.ones(len(loads), dtype=bool)
    for mask in unchecked.whole(recorded).values():
        checked &= ~mask
    left_out = np.zeros(len(loads), dtype=np.uint64)
    for mask, bits in unchecked.in_part(recorded).values():
        left_out[mask] = bits
    equal = got | left_out == loads["value"] | left_out
    mismatches: list[dict[str, object]] = []
    for index in np.flatnonzero(checked & ~equal)[:MISMATCHES_SHOWN].tolist():
        kind, size, address, value = loads[index].item()
        mismatches.append(
            {
                "kind": "pio" if kind == OP_IN else "mmio",
                "address": address,
                "size": size,
                "expected": value,
                "got": int(got[index]),
            }
        )
    return {
        "loads_checked": int(checked.sum()),
        "loads_matching": int((checked & equal).sum()),
        "load_mismatches": mismatches,
        "copies_differing_bytes": accel.differing_copies(),
    }


def _as_trace(machine: Machine, ops: NDArray[np.void]) -> Trace:
    """Accesses with the regions that they reach now."""
    places, which = np.unique(ops[["kind", "address"]], return_inverse=True)
    names: dict[str, int] = {}
    numbers = []
    for kind, address in places.tolist():
        region = (machine.ports if kind == OP_IN else machine.memory).region_at(address)
        numbers.append(names.setdefault(region.name if region else "", len(names)))
    region_of = np.array(numbers, dtype=np.intp)[which.reshape(-1)]
    return Trace(Path(), ops, list(names), region_of, np.arange(len(ops)))
