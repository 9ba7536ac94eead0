"""Records guests that run as machine code, and checks their loads against the recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN
from coalesced.tools.runs.results import LoadCheck, WrongLoad
from coalesced.vmm.accel.kvm import KvmAccelerator, Recorder
from coalesced.vmm.accel.recording import Recording, RecordingAccelerator
from coalesced.vmm.machine import Machine

if TYPE_CHECKING:
    from coalesced.tools.traces.trace import Trace

BoardT = TypeVar("BoardT")

MISMATCHES_SHOWN = 10


class Twin(Protocol):
    """Builds a second machine, as `runs.runner.Job` does."""

    @property
    def build(self) -> Callable[[Machine], Any]: ...
    @property
    def write_rom(self) -> Callable[[Machine, Any], None]: ...


def recorder(job: Twin, vcpus: int = 1) -> Recorder:
    """A function that runs a guest on `direct`, on a machine like the job's, and records it.

    Its vCPUs run one after the other.
    """

    def record(guest: str, arguments: Mapping[str, object]) -> Sequence[Recording]:
        accel = RecordingAccelerator(vcpus=vcpus)
        with Machine(accel) as machine:
            job.write_rom(machine, job.build(machine))
            machine.run(guest, arguments)
        return accel.recordings

    return record


def once(record: Recorder) -> Recorder:
    """A recorder that records each guest once."""
    recorded: list[tuple[str, Mapping[str, object], Sequence[Recording]]] = []

    def remembered(guest: str, arguments: Mapping[str, object]) -> Sequence[Recording]:
        for name, given, recordings in recorded:
            if (name, given) == (guest, arguments):
                return recordings
        recorded.append((guest, arguments, record(guest, arguments)))
        return recorded[-1][2]

    return remembered


def check_loads(machine: Machine, accel: KvmAccelerator) -> LoadCheck:
    """Compare the guest's loads with the recording, except those that depend on time."""
    from coalesced.tools.traces import loads  # noqa: PLC0415 - it knows the e1000's registers

    ops, got = accel.loads()
    compared = loads.compare(as_trace(machine, ops), got)
    mismatches = []
    for index in compared.wrong(MISMATCHES_SHOWN):
        kind, size, address, value = ops[index].item()
        space = "pio" if kind == OP_IN else "mmio"
        mismatches.append(WrongLoad(address, space, size, value, int(got[index])))
    checked = int(compared.checked.sum())
    return LoadCheck(checked, compared.matching, mismatches, accel.differing_copies())


def as_trace(machine: Machine, ops: NDArray[np.void]) -> Trace:
    """The accesses with the regions that they reach now, as a trace."""
    from coalesced.tools.traces.trace import Trace  # noqa: PLC0415

    places, which = np.unique(ops[["kind", "address"]], return_inverse=True)
    names: dict[str, int] = {}
    numbers = []
    for kind, address in places.tolist():
        region = (machine.ports if kind == OP_IN else machine.memory).region_at(address)
        numbers.append(names.setdefault(region.name if region else "", len(names)))
    region_of = np.array(numbers, dtype=np.intp)[which.reshape(-1)]
    return Trace(Path(), ops, list(names), region_of, np.arange(len(ops)))
