"""The cost of a ring entry, appended by one process and drained by the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import core
from coalesced.hv.abi import KVM_EXIT_HLT
from coalesced.hv.client import Vm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.hv.vcpus import Vcpu
from coalesced.tools.bench import floors, host, report, rows
from coalesced.tools.bench.channels import PEERS
from coalesced.tools.bench.measure import NOTHING, Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.peers import Channel
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest
from coalesced.tools.rings import figures, probe
from coalesced.tools.rings.sides import Ring
from coalesced.tools.runs.words import plural

RING_PAGES = 8
PUBLISH_EVERY = 64  # hv/core/vcpu.h: PUBLISH_AT_LATEST

C_RING = f"C ring, published every {PUBLISH_EVERY}"
C_RING_EACH = "C ring, published each"
C_RING_ALONE = "C ring, one process"
FLOORS = (C_RING, C_RING_EACH, C_RING_ALONE)


class Sizes(NamedTuple):
    """The size of a measurement; entries or calls per repetition."""

    repetitions: int
    batched: int
    each: int
    bursts: int
    same: int
    calls: int  # of each peer
    singles: int  # calls whose latency is measured
    seconds: float


FULL = Sizes(9, batched=2_000_000, each=1_000_000, bursts=200_000, same=500_000, calls=2_000,
             singles=150, seconds=32)  # fmt: skip
QUICK = Sizes(3, batched=400_000, each=200_000, bursts=40_000, same=100_000, calls=500,
              singles=50, seconds=10)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A use of the ring."""

    pages: int
    publish_every: int = PUBLISH_EVERY
    burst: int = 0  # entries between two exits; 0: only a full ring exits
    placement: str = "split"

    def __str__(self) -> str:
        published = "every entry published" if self.publish_every == 1 else "published in batches"
        how = f"{self.burst:,} entries and an exit" if self.burst else published
        place = ", one CPU" if self.placement == "same" else ""
        return f"ring of {plural(self.pages, 'page')}, {how}{place}"


class Choice(NamedTuple):
    """The subjects of a run."""

    pages: int = RING_PAGES  # of the ring that the peers are compared with
    others: Sequence[int] = (1, 2, 4, 8, 16, 64)  # further ring sizes, in pages
    bursts: Sequence[int] = (16, 64, 256, 1024)  # entries between two exits
    peers: Sequence[type[Channel]] = PEERS
    own: tuple[Ring, ...] = ()  # the user's

    def subjects(self) -> list[Subject]:
        """The ring of `pages` in batches, then each entry; other sizes, bursts, one CPU."""
        placement = host.placements()[0]
        each = partial(Subject, publish_every=1, placement=placement)
        batched = partial(Subject, placement=placement)
        sizes = [self.pages, *(size for size in self.others if size != self.pages)]
        wanted = [form(size) for size in sizes for form in (batched, each)]
        wanted += [batched(self.pages, burst=burst) for burst in self.bursts]
        if placement != "same":
            one_cpu = partial(Subject, self.pages, placement="same")
            wanted += [one_cpu(), one_cpu(publish_every=1)]
        return wanted


class QueueingGuest:
    """A guest process that queues entries on demand, and a consumer without devices."""

    def __init__(self, ring_pages: int, placement: str) -> None:
        self._process = GuestProcess()
        self._cpus = host.cpus_of(placement)
        # On one CPU a spin would only keep the other side from running.
        policy = WaitPolicy.POLL if placement == "split" else WaitPolicy.BLOCK
        self._watch = core.WATCH_RING if policy is WaitPolicy.POLL else 0
        try:
            self._vm = Vm(self._process, ring_pages, policy)
            self._vcpu: Vcpu = self._vm.create_vcpu()
            self._vm.register_coalesced_mmio(guest.QUEUE, guest.QUEUE_SIZE)
            self._vm.load_guest("coalesced.tools.guests.bench:ring")
        except BaseException:
            self._process.close()
            raise
        host.park(self._process.pid)
        self.drained = self.batches = 0

    def measure(self, entries: int, publish_every: int, burst: int = 0) -> float:
        """Nanoseconds per entry, from the guest's order to the last commit."""
        with host.on_cpu(self._cpus[0]), host.awake(self._process.pid, self._cpus[1]):
            return self._drain(guest.ring_command(entries, publish_every, burst)) / entries

    def _drain(self, command: int) -> int:
        vcpu, ring = self._vcpu, self._vcpu.ring
        assert ring is not None
        peek, commit = ring.core.peek, ring.commit
        run, watch = vcpu.run, self._watch
        drained = batches = started = 0
        while True:
            got = run(None, watch)
            while count := peek():
                commit(count)
                drained += count
                batches += 1
            if not isinstance(got, tuple):
                continue
            if got[0] == KVM_EXIT_HLT:
                break
            if got[1] == guest.CONTROL:
                vcpu.complete(command)
                started = time.monotonic_ns()
            elif not got[3]:  # the load that ends a burst
                vcpu.complete(0)
        self.drained += drained
        self.batches += batches
        return time.monotonic_ns() - started

    def close(self) -> None:
        """End the guest process."""
        self._vm.close()


class Subjects:
    """The subjects of a run, with the processes that they need."""

    def __init__(self, choice: Choice, sizes: Sizes, stack: ExitStack) -> None:
        """`stack` ends the processes."""
        self._choice = choice
        self._sizes = sizes
        self._stack = stack
        self._rings: dict[tuple[int, str], QueueingGuest] = {}
        cpus = host.cpus_of(host.placements()[0])
        self.rows = rows.Rows(choice.peers, cpus, stack)

    def batch(self) -> float:
        """Mean entries per drain of the first subject so far."""
        ring = self._rings[self._choice.pages, host.placements()[0]]
        return ring.drained / max(ring.batches, 1)

    def all(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """Each subject by name; a floor right behind the subject that is compared with it."""
        pages, sizes = self._choice.pages, self._sizes
        here, there = host.cpus_of(host.placements()[0])
        floor = partial(floors.ring, sizes.batched, pages, PUBLISH_EVERY, here, there)
        behind = {0: (C_RING, floor)}
        behind[1] = (C_RING_EACH, partial(floors.ring, sizes.each, pages, 1, here, there))
        for number, subject in enumerate(self._choice.subjects()):
            entries, ring = self._entries(subject), self._ring(subject)
            run = partial(ring.measure, entries, subject.publish_every, subject.burst)
            yield str(subject), run
            if number in behind:
                yield behind[number]
        for own in self._choice.own:
            yield own.name, partial(figures.nanoseconds, own, (there, here))
        yield C_RING_ALONE, partial(floors.ring_alone, sizes.batched, pages, PUBLISH_EVERY, here)
        yield from self.rows.subjects(sizes.calls, sizes.singles)

    def _entries(self, subject: Subject) -> int:
        if subject.burst:
            return self._sizes.bursts // subject.burst * subject.burst
        if subject.placement == "same" and host.placements()[0] != "same":
            return self._sizes.same
        return self._sizes.each if subject.publish_every == 1 else self._sizes.batched

    def _ring(self, subject: Subject) -> QueueingGuest:
        key = (subject.pages, subject.placement)
        if key not in self._rings:
            self._rings[key] = QueueingGuest(*key)
            self._stack.callback(self._rings[key].close)
        return self._rings[key]


def plan(options: Options) -> Plan:
    """The ring beside its peers and floors."""
    sizes = QUICK if options.quick else FULL
    own = (probe.offer_of(options.ring).ring,) if options.ring else ()
    choice = Choice(options.ring_pages or RING_PAGES, own=own)
    subjects = len(choice.subjects()) + len(FLOORS) + len(own)
    subjects += sum(len(way.channels(choice.peers)) for way in rows.WAYS)
    steps = rounds(sizes.repetitions) * subjects
    return Plan(steps, sizes.seconds, lambda step: measure(choice, sizes, step))


def measure(choice: Choice, sizes: Sizes, step: Step) -> report.Section:
    """Measure everything in one run."""
    with ExitStack() as stack:
        subjects = Subjects(choice, sizes, stack)
        taken = interleaved(dict(subjects.all()), sizes.repetitions, step)
        of_rows = rows.figures(taken, subjects.rows.singles(), subjects.rows.missing, choice.peers)
        return section(choice, taken, subjects.batch(), of_rows, subjects.rows.singles())


@dataclass(frozen=True)
class Cell(Subject):
    """A subject and its nanoseconds per entry."""

    ns_per_entry: Spread = NOTHING


@dataclass(frozen=True)
class Ends:
    """Least and greatest of each figure."""

    ns_per_entry: tuple[float, float]
    ns_per_entry_each: tuple[float, float]
    floors: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class RingFigures:
    """Nanoseconds per entry; of the ring, in batches and with every entry published."""

    ns_per_entry: Spread
    batch: float  # entries per drain
    ns_per_entry_each: Spread
    ring_pages: int
    own: Taken  # the user's ring
    rows: Mapping[str, rows.RowFigures]  # by how channels are called
    peers: Taken  # of the row of one entry per call
    floors: Taken
    matrix: Sequence[Cell]
    spread: Ends


def section(
    choice: Choice,
    taken: Taken,
    batch: float,
    of_rows: Mapping[str, rows.RowFigures],
    singles: Mapping[str, NDArray[np.int64]],
) -> report.Section:
    """Nanoseconds per entry; `batch`: entries per drain; `singles`: of calls, nanoseconds."""
    subjects = choice.subjects()
    ours, each = taken[str(subjects[0])], taken[str(subjects[1])]
    floors_taken = Taken({name: taken[name] for name in FLOORS})
    own = Taken({ring.name: taken[ring.name] for ring in choice.own})
    figures_ = RingFigures(
        ns_per_entry=ours,
        batch=batch,
        ns_per_entry_each=each,
        ring_pages=choice.pages,
        own=own,
        rows=of_rows,
        peers=rows.of_peers(of_rows[rows.WAYS[0].key]),
        floors=floors_taken,
        matrix=[Cell(**vars(s), ns_per_entry=taken[str(s)]) for s in subjects],
        spread=Ends((ours.low, ours.high), (each.low, each.high), report.ends(floors_taken)),
    )
    lines = [report.Row(str(s), taken[str(s)]) for s in subjects]
    lines[0] = lines[0]._replace(remark=f"{report.text(batch)} entries a drain")
    lines += [report.Row(f"own: {name}", figure) for name, figure in own.items()]
    lines += [report.Row(f"floor: {name}", figure) for name, figure in floors_taken.items()]
    lines += rows.lines(of_rows)
    title = "A 24-byte entry, appended by one process and drained by the other"
    missing = {name: why for each_row in of_rows.values() for name, why in each_row.missing.items()}
    charts = (_sizes_chart(subjects, taken), *rows.charts(of_rows))
    return report.Section(
        "ring", figures_, title, "ns", lines, singles=singles, charts=charts, missing=missing
    )


def _sizes_chart(subjects: list[Subject], taken: Taken) -> report.Chart:
    def points(publish_every: int) -> list[tuple[float, float]]:
        chosen = [s for s in subjects if (s.publish_every, s.burst) == (publish_every, 0)]
        chosen = [s for s in chosen if s.placement == subjects[0].placement]
        return sorted((float(s.pages), taken[str(s)].median) for s in chosen)

    lines = (("published in batches", points(PUBLISH_EVERY)), ("every entry published", points(1)))
    return report.Chart("Append and drain", "ring, pages", "ns per entry", lines)
