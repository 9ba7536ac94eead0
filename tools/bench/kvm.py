"""What a planar VGA write costs when this machine's KVM runs the guest, beside its floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tools.bench import floors
from tools.bench.measure import Spread
from tools.guests.bench import vga as guest
from tools.recorded import once, recorder
from tools.runner import Job
from vmm import pc
from vmm.accel.kvm import KvmAccelerator
from vmm.machine import Machine

COALESCED = "kvm, coalesced"
EXIT = "kvm, every write exits"
FLOOR = "a C loop around KVM_RUN"
NAMES = (COALESCED, FLOOR, EXIT)

_GUEST = f"{guest.__module__}:{guest.__qualname__}"


def _build(machine: Machine) -> None:
    pc.add_ram(machine)
    pc.add_vga(machine)


def subjects(writes: int, exits: int) -> dict[str, Callable[[], float]]:
    """Nanoseconds per write, by NAMES: of `writes`, and of `exits` where every write exits.

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
    ratio = taken[COALESCED].median / taken[FLOOR].median
    remarks = {COALESCED: f"{ratio:.2f} times the loop in C", FLOOR: "the floor", EXIT: ""}
    return [(name, taken[name], remarks[name]) for name in NAMES]


def values(taken: Mapping[str, Spread]) -> dict[str, object]:
    """Members of a JSON object."""
    medians = {name: round(taken[name].median, 3) for name in NAMES}
    return {
        "coalesced_ns_per_write": medians[COALESCED],
        "exit_ns_per_write": medians[EXIT],
        "floor_ns_per_write": medians[FLOOR],
        "floor_ratio": round(medians[COALESCED] / medians[FLOOR], 3),
        "spread": {
            f"{key}_ns_per_write": [round(taken[name].low, 3), round(taken[name].high, 3)]
            for key, name in (("coalesced", COALESCED), ("exit", EXIT), ("floor", FLOOR))
        },
    }
