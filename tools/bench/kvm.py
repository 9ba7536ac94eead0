"""What a planar VGA write costs when this machine's KVM runs the guest, beside its floor.

The two are compared run by run, each with its neighbour: the machine's speed drifts by more than
they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    ways = subjects(writes, exits)
    slow = {EXIT: ways.pop(EXIT)}
    taken = interleaved(ways, repetitions * NEIGHBOURS, step)
    return taken if stopped() else Taken(taken | interleaved(slow, repetitions, step))


def subjects(writes: int, exits: int) -> dict[str, Callable[[], float]]:
    """One run's nanoseconds per write, by NAMES: of `writes`, or `exits` where every one exits.

    The guest is recorded once for each of both. A subject raises KvmUnusable.
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


def rows(taken: Mapping[str, Spread]) -> list[tuple[str, Spread, str]]:
    """Lines of a table."""
    low, high = (ratios := _ratios(taken)).interval()
    remark = (
        f"{ratios.median:.2f} times the loop in C; the median of {len(ratios.samples)} neighbours "
        f"is {low:.2f} to {high:.2f}, 95 % sure"
    )
    remarks = {COALESCED: remark, FLOOR: "the floor", EXIT: ""}
    return [(name, taken[name], remarks[name]) for name in NAMES]


def values(taken: Mapping[str, Spread]) -> dict[str, object]:
    """Members of a JSON object."""
    medians = {name: report.rounded(taken[name].median) for name in NAMES}
    ratios = _ratios(taken)
    return {
        "coalesced_ns_per_write": medians[COALESCED],
        "exit_ns_per_write": medians[EXIT],
        "floor_ns_per_write": medians[FLOOR],
        "floor_ratio": report.rounded(ratios.median),
        "floor_ratio_interval": [report.rounded(end) for end in ratios.interval()],
        "spread": report.spreads(
            {
                f"{key}_ns_per_write": taken[name]
                for key, name in (("coalesced", COALESCED), ("exit", EXIT), ("floor", FLOOR))
            }
        ),
    }


def _ratios(taken: Mapping[str, Spread]) -> Spread:
    """COALESCED by FLOOR, each run by its neighbour."""
    pairs = zip(taken[COALESCED].samples, taken[FLOOR].samples, strict=False)
    return spread([ours / floor for ours, floor in pairs])
