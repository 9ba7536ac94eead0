"""The results of runs, as values. Their fields are the keys of the JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from coalesced.tools.runs.json_members import INLINE, OPTIONAL

if TYPE_CHECKING:
    from coalesced.tools.guests.network.exchange import Report
    from coalesced.tools.guests.network.serve import Answers
    from coalesced.vmm.netdev.backend import NetdevReport

T = TypeVar("T")


@dataclass(frozen=True)
class Sides(Generic[T]):
    """A figure of each process."""

    hv: T
    vmm: T


@dataclass(frozen=True)
class Percentiles:
    """Microseconds; None where they are not known."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Place:
    """An address, of memory ("mmio") or a port ("pio")."""

    address: int
    kind: str


@dataclass(frozen=True)
class Hot(Place):
    """An address and how many exits it caused."""

    exits: int


@dataclass(frozen=True)
class Unanswered(Place):
    """An address that no device answers, and how often it was accessed."""

    accesses: int
    missing: str | None  # the device that a PC has there


@dataclass(frozen=True)
class SleptOn:
    """A range with writes that were queued while the guest slept."""

    address: int
    size: int
    kind: str
    region: str | None
    writes: int
    wait_us: float  # the longest


@dataclass(frozen=True)
class Waits:
    """The waits of queued writes in the ring."""

    wait_us: Percentiles = Percentiles()
    waited_longest: Place | None = None
    slept_on: Sequence[SleptOn] = ()  # the longest wait first


@dataclass(frozen=True)
class Ring:
    """A ring, and what came out of it."""

    name: str  # "vm", or the device whose own it is
    coalesced: int  # writes
    drains: int  # that found any
    wakeups: int  # drains because it was half full, of an own ring
    wait_us: Percentiles


@dataclass(frozen=True)
class WrongLoad(Place):
    """A load that gave another value than the recorded one."""

    size: int
    expected: int
    got: int


@dataclass(frozen=True)
class LoadCheck:
    """The loads of a guest that ran as machine code, compared with their recording."""

    loads_checked: int
    loads_matching: int
    load_mismatches: Sequence[WrongLoad]  # the first ten
    copies_differing_bytes: int  # of what `read_memory` gave


@dataclass(frozen=True)
class PeerCounts:
    """The frames that the peer received."""

    received: int
    wrong: int
    digest: str


@dataclass(frozen=True)
class Exchanged:
    """The counts of the guest, the card and the peer."""

    guest: Report
    card: dict[str, int]
    peer: PeerCounts

    def complete(self, frames: int) -> bool:
        """True when every frame arrived as it was sent, both ways."""
        ends = (self.guest, self.peer)
        return all(end.received == frames and end.wrong == 0 for end in ends)


@dataclass(frozen=True)
class Traffic:
    """The traffic of a run of `exchange`. The run's `seconds` start with its first frame."""

    start_up_seconds: float
    frames_per_second: float
    network: Exchanged


@dataclass(frozen=True)
class Served:
    """The counts of the guest and the card; `guest` None: it was not up yet."""

    guest: Answers | None
    card: dict[str, int]


@dataclass(frozen=True)
class ServedTraffic:
    """The traffic of a run of `serve`."""

    network: Served


@dataclass(frozen=True)
class Run:
    """One run of a guest."""

    coalescing: bool
    accel: str
    writes: int
    coalesced: int
    exits: int
    exits_by: Mapping[str, int]
    stale_drains: int
    signals: int
    seconds: float
    ns_per_write: float | None
    cpu_seconds: Sides[float]
    context_switches: Sides[int]
    rss_bytes: Sides[int]
    state: str
    failed_writes: int
    failures: Sequence[str]
    unassigned: int
    netdevs: Mapping[str, NetdevReport]
    start_seconds: float | None
    waits: Waits = field(metadata=INLINE)
    loads: LoadCheck | None = field(default=None, metadata=INLINE)
    traffic: Traffic | None = field(default=None, metadata=INLINE)
    served: ServedTraffic | None = field(default=None, metadata=INLINE)
    unanswered: Sequence[Unanswered] = ()  # ten at most
    unassigned_addresses: int = 0  # all of them; beyond tally.KEPT a lower bound
    rings: Sequence[Ring] = ()  # the VM's first

    @property
    def mismatching(self) -> bool:
        """True when a load or a copy gave another value than recorded."""
        found = self.loads
        return found is not None and (
            found.loads_matching != found.loads_checked or found.copies_differing_bytes > 0
        )

    @property
    def heading(self) -> str:
        """The accelerator, and whether writes were queued."""
        if self.accel == "direct":
            return "direct"
        return f"{self.accel}, {'coalesced' if self.coalescing else 'every write exits'}"


@dataclass(frozen=True)
class Savings:
    """Savings of the coalesced run over the uncoalesced one; None where one is missing."""

    exits: float | None = None  # share of the exits, 0 to 1
    time: float | None = None  # uncoalesced seconds / coalesced seconds

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Savings:
        """The savings of the first coalesced run and the first other one that is not direct."""
        coalesced = next((run for run in runs if run.coalescing), None)
        plain = next((run for run in runs if not run.coalescing and run.accel != "direct"), None)
        if coalesced is None or plain is None:
            return cls()
        return cls(
            1 - coalesced.exits / plain.exits if plain.exits else None,
            plain.seconds / coalesced.seconds if coalesced.seconds else None,
        )


@dataclass(frozen=True)
class Comparison:
    """The runs of one guest, with coalescing on, off, and direct."""

    guest: str
    accel: str
    runs: Sequence[Run]
    savings: Savings
    identical: bool | None  # None: runs that time stopped at different points
    hottest: Sequence[Hot]  # addresses of the first run, at most ten
    png: str | None = None
    image_equal: bool | None = field(
        default=None, metadata=OPTIONAL
    )  # the screen is the picture file that the guest drew

    @property
    def ok(self) -> bool:
        """Equal states, no device that raised, no load that differs from its recording."""
        failed = any(run.failed_writes or run.mismatching for run in self.runs)
        return self.identical is not False and not failed and self.image_equal is not False


def same_state(runs: Sequence[Run]) -> bool:
    """True when every run ended in the same state."""
    return len({run.state for run in runs}) == 1
