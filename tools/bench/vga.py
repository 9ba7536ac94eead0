"""What a planar VGA write costs end to end, from the guest's store to video memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from hv.doorbell import WaitPolicy
from hv.process import GuestProcess
from tools.bench import host, kvm
from tools.bench.measure import Spread, Step, interleaved, rounds
from vmm import pc
from vmm.accel.base import Accelerator
from vmm.accel.direct import DirectAccelerator
from vmm.accel.process import ProcessAccelerator
from vmm.machine import Machine

GUEST = "tools.guests.bench:vga"
EXIT, DIRECT = "every write exits", "direct"


class Sizes(NamedTuple):
    """How much a measurement is; writes per repetition."""

    repetitions: int
    writes: int
    exits: int  # of the guest whose every write exits
    on_kvm: int  # where a guest's own instructions may be emulated


FULL = Sizes(repetitions=7, writes=1 << 20, exits=30_000, on_kvm=1 << 17)
QUICK = Sizes(repetitions=2, writes=1 << 17, exits=3_000, on_kvm=1 << 14)


class VgaResult(NamedTuple):
    """Nanoseconds per write, `coalesced` by pages of the ring."""

    coalesced: dict[int, Spread]
    exit: Spread
    direct: Spread
    wait: str
    on_kvm: dict[str, Spread] | None = None  # by tools.bench.kvm.NAMES


def measure(
    ring_pages: Sequence[int], wait: str, sizes: Sizes, step: Step, on_kvm: bool = False
) -> VgaResult:
    """Measure the write through rings of several sizes, as exits, and directly, in one run.

    `on_kvm`: on this machine's KVM as well. Raises KvmUnusable.
    """
    policy = WaitPolicy.named(wait)
    placement = host.placements()[0]

    def through(pages: int) -> Accelerator:
        return ProcessAccelerator(GuestProcess(), pages, policy, placement)

    def coalesced(pages: int) -> float:
        return run(through(pages), sizes.writes)

    subjects: dict[str, Callable[[], float]] = {
        _name(pages): partial(coalesced, pages) for pages in ring_pages
    }
    subjects[EXIT] = lambda: run(through(1), sizes.exits, coalesce=False)
    subjects[DIRECT] = lambda: run(DirectAccelerator(), sizes.writes)
    if on_kvm:
        subjects |= kvm.subjects(sizes.on_kvm, sizes.exits)
    taken = interleaved(subjects, sizes.repetitions, step)
    return VgaResult(
        {pages: taken[_name(pages)] for pages in ring_pages},
        taken[EXIT],
        taken[DIRECT],
        wait,
        {name: taken[name] for name in kvm.NAMES} if on_kvm else None,
    )


def run(accel: Accelerator, writes: int, coalesce: bool = True) -> float:
    """Nanoseconds per write of one guest, from its first operation to the last drained write."""
    with Machine(accel, coalesce=coalesce) as machine:
        pc.add_ram(machine)
        pc.add_vga(machine)
        machine.run(GUEST, {"writes": writes})
        return machine.seconds / writes * 1e9


def steps(ring_pages: Sequence[int], sizes: Sizes, on_kvm: bool = False) -> int:
    """Calls of `step` that `measure` makes."""
    return rounds(sizes.repetitions) * (len(ring_pages) + 2 + len(kvm.NAMES) * on_kvm)


def _name(pages: int) -> str:
    return f"ring of {pages} pages"
