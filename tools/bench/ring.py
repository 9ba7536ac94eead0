"""What an entry of the ring costs, appended by one process and drained by the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from coalesced.hv import core
from coalesced.hv.abi import KVM_EXIT_HLT
from coalesced.hv.client import Vcpu, Vm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import floors, host, report
from coalesced.tools.bench.channels import FLOOR, PEERS
from coalesced.tools.bench.measure import Step, Taken, interleaved, rounds
from coalesced.tools.bench.peers import Channel, Peer, Unavailable
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests import bench as guest

RING_PAGES = 8
PUBLISH_EVERY = 64  # hv/core/vcpu.h: PUBLISH_AT_LATEST
SIZES_OF_RING = (1, 2, 4, 8, 16, 64)  # pages
BURSTS = (16, 64, 256, 1024)  # entries between two exits

C_RING = f"C ring, published every {PUBLISH_EVERY}"
C_RING_EACH = "C ring, published each"
C_RING_ALONE = "C ring, one process"
FLOORS = (C_RING, C_RING_EACH, C_RING_ALONE, FLOOR.name)


class Sizes(NamedTuple):
    """How much a measurement is; entries per repetition."""

    repetitions: int
    batched: int
    each: int
    bursts: int
    same: int
    peers: int
    seconds: float


FULL = Sizes(9, batched=2_000_000, each=1_000_000, bursts=200_000, same=500_000, peers=8_000,
             seconds=25)  # fmt: skip
QUICK = Sizes(3, batched=400_000, each=200_000, bursts=40_000, same=100_000, peers=1_000,
              seconds=7)  # fmt: skip


class Subject(NamedTuple):
    """One way through the ring."""

    pages: int
    publish_every: int = PUBLISH_EVERY
    burst: int = 0  # entries between two exits, 0: none but for a full ring
    placement: str = "split"

    def __str__(self) -> str:
        published = "every entry published" if self.publish_every == 1 else "published in batches"
        how = f"{report.plural(self.burst, 'entry').replace('entrys', 'entries')} and an exit"
        place = ", one CPU" if self.placement == "same" else ""
        return (
            f"ring of {report.plural(self.pages, 'page')}, "
            f"{how if self.burst else published}{place}"
        )


def subjects_of(pages: int) -> list[Subject]:
    """What is measured: the ring of `pages` pages first, then sizes, bursts, and one CPU."""
    placement = host.placements()[0]
    each = partial(Subject, publish_every=1, placement=placement)
    batched = partial(Subject, placement=placement)
    sizes = [size for size in SIZES_OF_RING if size != pages]
    wanted = [batched(pages), each(pages)]
    wanted += [form(size) for size in sizes for form in (batched, each)]
    wanted += [batched(pages, burst=burst) for burst in BURSTS]
    if placement != "same":
        wanted += [Subject(pages, placement="same"), Subject(pages, 1, placement="same")]
    return wanted


class Ring:
    """A guest process that queues on demand, and a consumer without devices."""

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


class Session:
    """Everything that is measured, with the processes that it needs."""

    def __init__(self, pages: int, sizes: Sizes) -> None:
        self._pages = pages
        self._sizes = sizes
        self._stack = ExitStack()
        self._rings: dict[tuple[int, str], Ring] = {}
        self.missing: dict[str, str] = {}  # peers, and why

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def batch(self) -> float:
        """Entries per drain of the first subject so far."""
        ring = self._rings[self._pages, host.placements()[0]]
        return ring.drained / max(ring.batches, 1)

    def subjects(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """By name; the floor right behind the figure that is held against it."""
        pages, sizes = self._pages, self._sizes
        here, there = host.cpus_of(host.placements()[0])
        for number, subject in enumerate(subjects_of(pages)):
            yield (
                str(subject),
                partial(
                    self._ring(subject).measure,
                    self._entries(subject),
                    subject.publish_every,
                    subject.burst,
                ),
            )
            if number == 0:
                yield C_RING, lambda: floors.ring(sizes.batched, pages, PUBLISH_EVERY, here, there)
            elif number == 1:
                yield C_RING_EACH, lambda: floors.ring(sizes.each, pages, 1, here, there)
        yield C_RING_ALONE, lambda: floors.ring_alone(sizes.batched, pages, PUBLISH_EVERY, here)
        for channel in (FLOOR, *PEERS):
            peer = self._peer(channel, (here, there))
            if peer is not None:
                yield channel.name, partial(peer.measure, sizes.peers)

    def _entries(self, subject: Subject) -> int:
        if subject.burst:
            return self._sizes.bursts // subject.burst * subject.burst
        if subject.placement == "same" and host.placements()[0] != "same":
            return self._sizes.same
        return self._sizes.each if subject.publish_every == 1 else self._sizes.batched

    def _ring(self, subject: Subject) -> Ring:
        key = (subject.pages, subject.placement)
        if key not in self._rings:
            self._rings[key] = Ring(*key)
            self._stack.callback(self._rings[key].close)
        return self._rings[key]

    def _peer(self, channel: type[Channel], cpus: tuple[int, int]) -> Peer | None:
        try:
            peer = Peer(channel(), cpus)
        except Unavailable as error:
            self.missing[channel.name] = str(error)
            return None
        self._stack.callback(peer.close)
        return peer


def plan(options: Options) -> Plan:
    """The ring beside its peers and floors."""
    sizes = QUICK if options.quick else FULL
    pages = options.ring_pages or RING_PAGES
    steps = rounds(sizes.repetitions) * (len(subjects_of(pages)) + len(FLOORS) + len(PEERS))
    return Plan(steps, sizes.seconds, lambda step: measure(pages, sizes, step))


def measure(pages: int, sizes: Sizes, step: Step) -> report.Section:
    """Measure everything in one run."""
    with Session(pages, sizes) as session:
        taken = interleaved(dict(session.subjects()), sizes.repetitions, step)
        return section(pages, taken, session.batch(), session.missing)


def section(pages: int, taken: Taken, batch: float, missing: dict[str, str]) -> report.Section:
    """Nanoseconds per entry; `batch`: entries per drain; peers as multiples of the ring."""
    subjects = subjects_of(pages)
    ours, each = taken[str(subjects[0])], taken[str(subjects[1])]
    peers = Taken({peer.name: taken[peer.name] for peer in PEERS if peer.name in taken})
    floors_taken = Taken({name: taken[name] for name in FLOORS})
    best = min(peers.values(), key=lambda figure: figure.median, default=None)
    values: dict[str, object] = {
        "ns_per_entry": report.rounded(ours.median),
        "batch": report.rounded(batch),
        "ns_per_entry_each": report.rounded(each.median),
        "ring_pages": pages,
        "best_peer_ratio": report.ratio(best, ours) if best else None,
        "peers": report.medians(peers),
        "peers_missing": missing,
        "floors": report.medians(floors_taken),
        "matrix": [
            {**s._asdict(), "ns_per_entry": report.rounded(taken[str(s)].median)} for s in subjects
        ],
        "spread": {
            **report.spreads({"ns_per_entry": ours, "ns_per_entry_each": each}),
            "peers": report.spreads(peers),
            "floors": report.spreads(floors_taken),
        },
    }
    remarks = {str(subjects[0]): f"{report.text(batch)} entries a drain"}
    rows: list[report.Row] = [(str(s), taken[str(s)], remarks.get(str(s), "")) for s in subjects]
    rows += [(f"floor: {name}", figure, "") for name, figure in floors_taken.items()]
    rows += [
        (f"peer: {name}", figure, f"{figure.median / ours.median:,.0f} times the ring")
        for name, figure in peers.items()
    ]
    title = "A 24-byte entry, appended by one process and drained by the other"
    charts = (_sizes_chart(subjects, taken), _peers_chart(subjects[:2], taken, floors_taken, peers))
    return report.Section("ring", values, title, "ns", rows, charts=charts, missing=missing)


def _sizes_chart(subjects: list[Subject], taken: Taken) -> report.Chart:
    def points(publish_every: int) -> list[tuple[float, float]]:
        chosen = [s for s in subjects if (s.publish_every, s.burst) == (publish_every, 0)]
        chosen = [s for s in chosen if s.placement == subjects[0].placement]
        return sorted((float(s.pages), taken[str(s)].median) for s in chosen)

    lines = (("published in batches", points(PUBLISH_EVERY)), ("every entry published", points(1)))
    return report.Chart("Append and drain", "ring, pages", "ns per entry", lines)


def _peers_chart(
    ours: list[Subject], taken: Taken, floors_taken: Taken, peers: Taken
) -> report.Chart:
    bars = [(str(s), taken[str(s)].median) for s in ours]
    bars += [(name, figure.median) for name, figure in (floors_taken | peers).items()]
    return report.Chart("Between two processes, one 24-byte entry", "", "ns", bars=tuple(bars))
