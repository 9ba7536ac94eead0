"""What an entry of the ring costs, appended by one process and drained by the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

import posix_ipc

from hv.abi import KVM_EXIT_HLT
from hv.client import Vcpu, Vm
from hv.doorbell import WaitPolicy
from hv.process import GuestProcess
from tools.bench import floors, host, peers
from tools.bench.measure import Spread, Step, interleaved, rounds
from tools.guests import bench as guest

PUBLISH_EVERY = 64  # hv/core/vcpu.h: PUBLISH_AT_LATEST

PEERS: Mapping[str, Callable[[int], AbstractContextManager[peers.Peer]]] = {
    "multiprocessing.Pipe": peers.pipe,
    "multiprocessing.Queue": peers.queue,
    "posix_ipc.MessageQueue": peers.message_queue,
}
BARE_PIPE = "os.pipe, a write each"
C_RING = f"C ring, published every {PUBLISH_EVERY}"
C_RING_EACH = "C ring, published each"
BATCHED, EACH = "batched", "each"


class Sizes(NamedTuple):
    """How much a measurement is; entries per repetition."""

    repetitions: int
    batched: int
    each: int
    peers: int


FULL = Sizes(repetitions=9, batched=2_000_000, each=1_000_000, peers=20_000)
QUICK = Sizes(repetitions=3, batched=400_000, each=200_000, peers=3_000)


class RingResult(NamedTuple):
    """All in nanoseconds per entry, but `batch`: entries per drain."""

    ring_pages: int
    batched: Spread
    each: Spread
    batch: float
    peers: dict[str, Spread]
    floors: dict[str, Spread]


class Ring:
    """A guest process that queues on demand, and a consumer without devices."""

    def __init__(self, ring_pages: int) -> None:
        self._process = GuestProcess()
        try:
            self._vm = Vm(self._process, ring_pages, WaitPolicy.POLL)
            self._vcpu: Vcpu = self._vm.create_vcpu()
            self._vm.register_coalesced_mmio(guest.QUEUE, guest.QUEUE_SIZE)
            self._vm.load_guest("tools.guests.bench:ring")
        except BaseException:
            self._process.close()
            raise
        host.park(self._process.pid)
        self.drained = self.batches = 0

    def measure(self, entries: int, publish_every: int) -> float:
        """Nanoseconds per entry, from the guest's order to the last commit."""
        cpu, other = host.cpus_of(host.placements()[0])
        with host.on_cpu(cpu), host.awake(self._process.pid, other):
            return self._drain(entries, publish_every) / entries

    def _drain(self, entries: int, publish_every: int) -> int:
        vcpu, ring = self._vcpu, self._vcpu.ring
        assert ring is not None
        peek, commit, run = ring.peek, ring.commit, vcpu.run
        drained = batches = started = 0
        while True:
            got = run(None, True)
            while count := len(peek()):
                commit(count)
                drained += count
                batches += 1
            if not isinstance(got, tuple):
                continue
            if got[0] == KVM_EXIT_HLT:
                break
            if got[1] == guest.CONTROL:
                vcpu.complete(entries | publish_every << 32)
                started = time.monotonic_ns()
        self.drained += drained
        self.batches += batches
        return time.monotonic_ns() - started

    def close(self) -> None:
        """End the guest process."""
        self._vm.close()


def measure(ring_pages: int, sizes: Sizes, step: Step) -> RingResult:
    """Measure a ring beside its peers and floors, in one run."""
    here, there = host.cpus_of(host.placements()[0])
    counts = [0, 0]
    with ExitStack() as stack:
        ring = Ring(ring_pages)
        stack.callback(ring.close)

        def batched() -> float:
            drained, batches = ring.drained, ring.batches
            ns = ring.measure(sizes.batched, PUBLISH_EVERY)
            counts[0] += ring.drained - drained
            counts[1] += ring.batches - batches
            return ns

        subjects: dict[str, Callable[[], float]] = {
            BATCHED: batched,
            C_RING: lambda: floors.ring(sizes.batched, ring_pages, PUBLISH_EVERY, here, there),
            EACH: lambda: ring.measure(sizes.each, 1),
            C_RING_EACH: lambda: floors.ring(sizes.each, ring_pages, 1, here, there),
        }
        for name, peer in {**PEERS, BARE_PIPE: peers.bare_pipe}.items():
            started = _start(stack, peer, there)
            if started is not None:
                subjects[name] = _on_cpu(started, here, sizes.peers)
        taken = interleaved(subjects, sizes.repetitions, step)
    return RingResult(
        ring_pages,
        taken[BATCHED],
        taken[EACH],
        counts[0] / max(counts[1], 1),
        {name: taken[name] for name in PEERS if name in taken},
        {name: taken[name] for name in (C_RING, C_RING_EACH, BARE_PIPE)},
    )


def steps(sizes: Sizes) -> int:
    """Calls of `step` that `measure` makes at most."""
    return rounds(sizes.repetitions) * (5 + len(PEERS))


def _start(
    stack: ExitStack, peer: Callable[[int], AbstractContextManager[peers.Peer]], cpu: int
) -> peers.Peer | None:
    """The peer's process; None where this kernel has no message queues."""
    try:
        return stack.enter_context(peer(cpu))
    except (OSError, posix_ipc.Error):
        return None


def _on_cpu(peer: peers.Peer, cpu: int, entries: int) -> Callable[[], float]:
    def run() -> float:
        with host.on_cpu(cpu):
            return peer.measure(entries)

    return run
