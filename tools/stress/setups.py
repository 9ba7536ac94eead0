"""The parameters of a stressed pair."""

from __future__ import annotations

from dataclasses import dataclass

from coalesced.tools.stress.lies import Lie
from coalesced.tools.stress.pattern import Style


@dataclass(frozen=True)
class Setup:
    """The parameters of a pair."""

    ring_pages: int
    start: int  # slot where both indices stand at first
    wait: str
    cpus: str
    staleness: float  # seconds; 0.0: off
    seed: int  # of the stream
    style: Style
    entries: int  # how many the guest writes at least; 0: until it is stopped
    longest: int  # operations of a burst at most
    bells: float  # share of bursts that wait for an interrupt
    remaps: float  # seconds between two changes of the mapping; 0: none
    luck: int  # seed of the bursts
    vcpus: int = 1
    rings: int = 0  # own ones; vCPU i writes to number (i + 1) % (rings + 1), 0 being the VM's
    posted: bool = (
        False  # what raises the interrupt is a posted write; else a timed flush brings it
    )
    strict: bool = True  # only the two sides write into the segments
    lie: Lie | None = None  # of a side at the start
    lane: int = 0  # of pairs side by side: the VMM of each is placed on another CPU
    again: bool = False  # it has the machine of the pair before, and its segments, renewed

    @property
    def is_reusable(self) -> bool:
        """Whether its processes can run another pair."""
        return not self.strict and self.vcpus == 1 and not self.rings

    @property
    def spins(self) -> bool:
        """Whether a side uses a CPU while it waits; on a single one adaptive waits sleep."""
        return self.wait == "poll" or (self.wait == "adaptive" and self.cpus != "same")

    def cpus_of(self, count: int) -> set[int]:
        """The numbers of the CPUs that it is placed on, of `count`, from 0 on."""
        return {self.lane % count, (self.lane + (self.cpus == "split")) % count}
