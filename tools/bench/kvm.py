"""The cost of a planar VGA write on this machine's KVM, beside its floor.

Each run is compared with the run of the floor next to it: the machine's speed drifts by more than
the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from coalesced.tools.bench import floors, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds, spread
from coalesced.tools.bench.progress import stopped
from coalesced.tools.guests.bench import vga as guest
from coalesced.tools.runs.recorded import once, recorder
from coalesced.tools.runs.runner import Job
from coalesced.vmm import pc
from coalesced.vmm.accel.kvm import KvmAccelerator
from coalesced.vmm.machine import Machine

COALESCED = "kvm, coalesced"
EXIT = "kvm, every write exits"
FLOOR = "a C loop around KVM_RUN"
NAMES = (COALESCED, FLOOR, EXIT)
NEIGHBOURS = 6  # pairs of COALESCED and FLOOR to a repetition

_GUEST = f"{guest.__module__}:{guest.__qualname__}"


def _build(machine: Machine) -> None:
    pc.add_ram(machine)
    pc.add_vga(machine)


def steps(repetitions: int) -> int:
    """Calls of `step` that `measure` makes."""
    return 2 * rounds(repetitions * NEIGHBOURS) + rounds(repetitions)


def measure(writes: int, exits: int, repetitions: int, step: Step) -> Taken:
    """Nanoseconds per write, by NAMES. Raises KvmUnusable."""
    runs = subjects(writes, exits)
    slow = {EXIT: runs.pop(EXIT)}
    taken = interleaved(runs, repetitions * NEIGHBOURS, step)
    return taken if stopped() else Taken(taken | interleaved(slow, repetitions, step))


def subjects(writes: int, exits: int) -> dict[str, Callable[[], float]]:
    """By NAMES: nanoseconds per write of a run of `writes`, or of `exits` without coalescing.

    The guest is recorded once for each number. A subject raises KvmUnusable.
    """
    job = Job(_GUEST, {}, _build, lambda _machine, _board: None)
    record = once(recorder(job))

    def machine_with(count: int, coalesce: bool) -> Machine:
        machine = Machine(KvmAccelerator(record), coalesce=coalesce)
        try:
            _build(machine)
            machine.accel.load_guest(_GUEST, {"writes": count})
        except BaseException:
            machine.close()
            raise
        return machine

    def run(count: int, coalesce: bool) -> float:
        with machine_with(count, coalesce) as machine:
            machine.resume()
            return machine.seconds / count * 1e9

    def bare() -> float:
        with machine_with(writes, True) as machine:
            accel = machine.accel
            assert isinstance(accel, KvmAccelerator)
            vcpu = accel.vcpu
            return floors.kvm(vcpu.fd, len(vcpu.mapping), vcpu.ring_offset) / writes

    return {
        COALESCED: partial(run, writes, True),
        FLOOR: bare,
        EXIT: partial(run, exits, False),
    }


def rows(taken: Mapping[str, Spread]) -> list[report.Row]:
    """Lines of a table."""
    low, high = (ratios := _ratios(taken)).interval()
    remark = (
        f"{ratios.median:.2f} times the loop in C; the median of {len(ratios.samples)} neighbours "
        f"is {low:.2f} to {high:.2f} with 95 % confidence"
    )
    remarks = {COALESCED: remark, FLOOR: "the floor", EXIT: ""}
    return [report.Row(name, taken[name], remarks[name]) for name in NAMES]


@dataclass(frozen=True)
class KvmFigures:
    """Nanoseconds per write, and the ratio of neighbouring runs."""

    coalesced_ns_per_write: Spread
    exit_ns_per_write: Spread
    floor_ns_per_write: Spread
    floor_ratio: Spread
    floor_ratio_interval: tuple[float, float]
    spread: Mapping[str, tuple[float, float]]


def figures(taken: Mapping[str, Spread]) -> KvmFigures:
    """The figures of a run that has all of NAMES."""
    ratios = _ratios(taken)
    named = {
        "coalesced_ns_per_write": taken[COALESCED],
        "exit_ns_per_write": taken[EXIT],
        "floor_ns_per_write": taken[FLOOR],
    }
    return KvmFigures(
        **named,
        floor_ratio=ratios,
        floor_ratio_interval=ratios.interval(),
        spread=report.ends(named),
    )


def _ratios(taken: Mapping[str, Spread]) -> Spread:
    """COALESCED / FLOOR of each run and its neighbour."""
    pairs = zip(taken[COALESCED].samples, taken[FLOOR].samples, strict=False)
    return spread([ours / floor for ours, floor in pairs])
