"""What coalescing is worth to a network card: frames per second, and CPU time per frame."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import psutil

from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host, report
from coalesced.tools.bench.far_end import FarProcess, NearEnd, Order
from coalesced.tools.bench.measure import Spread, Step, interleaved, rounds, spread
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.packets import PAYLOAD_AT
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs.exchange import LOOPBACK, free_ports
from coalesced.tools.runs.options import NetworkOptions
from coalesced.vmm import pc
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

GUEST: Final = "coalesced.tools.guests.network.bench:run"
LENGTH: Final = 1428  # bytes of UDP payload: frames of 1,470 bytes
WINDOW: Final = 128  # frames under way
SECONDS: Final = 45.0  # about what all of it takes
STALENESS: Final = 0.010  # seconds, as every command with a network has it

LINUX: Final = "transmit"
SPINNING: Final = "transmit_spinning"
BURST: Final = "transmit_burst"
RECEIVE: Final = "receive"


class Kind(NamedTuple):
    """A kind of traffic."""

    title: str
    order: str
    each: int  # frames for each write of the tail
    ack_every: int  # frames that the far end acknowledges by one
    frames: int  # of a run
    runs: int = 1  # in a round
    wait: str = "adaptive"
    near: bool = False  # is the far end in the VMM's process?


_EACH: Final = "transmit as in Linux's trace"

# The first is what the recorded trace of Linux's driver shows: 20,122 writes of TDT and 18,793 of
# RDT, an acknowledgement for each transmission. Its exits are signals through pipes: as to KVM's,
# a switch to somebody who sleeps belongs to them. Linux batches both where the stack lets it.
# Where the wake-up of a third process would be most of what is measured, the far end is near, and
# the runs are short: a gain is that of two neighbours, on a machine whose speed drifts.
KINDS: Final = {
    LINUX: Kind(_EACH, "transmit", 1, 1, 400, 3, wait="block", near=True),
    SPINNING: Kind(_EACH, "transmit", 1, 1, 800, near=True),
    BURST: Kind("transmit, TDT for 32 frames", "transmit", 32, 32, 12_000),
    RECEIVE: Kind("receive", "receive", 1, 32, 12_000),
}


class Sizes(NamedTuple):
    """How much a measurement is: rounds, and what part of each kind's frames a run has."""

    repetitions: int
    part: int = 1

    def frames_of(self, kind: str) -> int:
        return KINDS[kind].frames // self.part


FULL: Final = Sizes(20)  # a million frames and more
QUICK: Final = Sizes(2, part=2)


@dataclass
class _Samples:
    """What one kind of traffic gave, a run after the other."""

    pps: list[float] = field(default_factory=list)
    hv_us: list[float] = field(default_factory=list)
    vmm_us: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    interrupts: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Medians: frames per second, and what a frame takes."""
        return {
            "pps": _median(self.pps),
            "cpu_us_per_frame": {"hv": _median(self.hv_us), "vmm": _median(self.vmm_us)},
            "exits_per_frame": _median(self.exits),
            "interrupts_per_frame": _median(self.interrupts),
        }

    def remark(self) -> str:
        """What a frame takes, for people."""
        return (
            f"a frame: {_median(self.hv_us):.1f} + {_median(self.vmm_us):.1f} us of CPU, "
            f"{_median(self.exits):.2f} exits, {_median(self.interrupts):.2f} interrupts"
        )


class Link:
    """A guest with a card, and a far end, near or in a process of its own."""

    def __init__(self, policy: WaitPolicy, placement: str, coalesce: bool, near: bool) -> None:
        ours, theirs = free_ports()
        self.samples = {kind: _Samples() for kind in KINDS}
        self.frames = 0
        self._warm: set[str] = set()  # kinds that ran
        self._cpu = host.cpus_of(placement)[0]
        with ExitStack() as stack:
            # Before the guest's, whose CPU it would inherit.
            far = None if near else stack.enter_context(closing(FarProcess(theirs, ours)))
            process = GuestProcess()
            self.pid = process.pid
            with host.affinity_kept():
                accel = ProcessAccelerator(process, 1, policy, placement)
            self._machine = Machine(accel, coalesce=coalesce, staleness=STALENESS)
            stack.callback(self._machine.close)
            self._far = far or stack.enter_context(
                closing(NearEnd(self._machine.loop, theirs, ours))
            )
            netdev = f"dgram,id=n0,local={LOOPBACK}:{ours},remote={LOOPBACK}:{theirs}"
            devices.board(
                self._machine,
                ["e1000,addr=03.0,netdev=n0"],
                pc.DEFAULT_MEMORY,
                NetworkOptions((netdev,)),
            )
            self._machine.run(GUEST)
            self._stack = stack.pop_all()

    def measure(self, kind: str, frames: int) -> float:
        """Frames per second, from the guest's first to the last one's acknowledgement."""
        what = KINDS[kind]
        order = Order(what.order, frames, LENGTH, WINDOW, what.ack_every)
        wanted = {
            "kind": order.kind,
            "frames": frames,
            "length": LENGTH,
            "window": WINDOW,
            "each": what.each,
        }
        machine = self._machine
        memory.order(machine.dma.write, wanted)
        self._far.begin(order)
        exits, cpu = machine.counters.exits, time.process_time_ns()
        with host.on_cpu(self._cpu):
            machine.resume()
        cpu = time.process_time_ns() - cpu
        said = memory.read_report(machine.dma.read)
        ns, hv_ns, interrupts = (int(str(said[key])) for key in ("ns", "cpu_ns", "interrupts"))
        pps = frames / ns * 1e9
        self.frames += frames
        if kind not in self._warm:
            self._warm.add(kind)
        else:
            taken = self.samples[kind]
            taken.pps.append(pps)
            taken.hv_us.append(hv_ns / frames / 1e3)
            taken.vmm_us.append(cpu / frames / 1e3)
            taken.exits.append((machine.counters.exits - exits) / frames)
            taken.interrupts.append(interrupts / frames)
        return pps

    def close(self) -> None:
        """End both processes."""
        self._stack.close()


Links = dict[bool, Link]
"""By coalescing."""


def measure(wait: str | None, sizes: Sizes, step: Step) -> report.Section:
    """Measure each kind of traffic with coalescing and without, in turns.

    `wait`: how both sides wait, None: as each kind has it.
    """
    placement = host.placements()[0]
    memory_use: list[dict[str, int]] = []
    made: dict[tuple[str, bool], Links] = {}
    links: dict[str, Links] = {}
    with ExitStack() as stack:
        for kind, what in KINDS.items():
            which = wait or what.wait, what.near
            if which not in made:
                policy = WaitPolicy.named(which[0])
                made[which] = {
                    on: stack.enter_context(closing(Link(policy, placement, on, what.near)))
                    for on in (True, False)
                }
            links[kind] = made[which]
        subjects = {
            f"{kind} {run} {coalesce}": partial(link.measure, kind, sizes.frames_of(kind))
            for kind, what in KINDS.items()
            for run in range(what.runs)
            for coalesce, link in links[kind].items()
        }
        watched = links[BURST][True]
        calls = 0

        def counted() -> None:
            nonlocal calls
            calls += 1
            # After each kind ran once nothing is left to be allocated.
            if calls == len(subjects):
                memory_use.append(_rss(watched))
            step()

        interleaved(subjects, sizes.repetitions, counted)
        memory_use.append(_rss(watched))
    return section(links, wait, memory_use)


def steps(sizes: Sizes) -> int:
    """Calls of `step` that `measure` makes."""
    return rounds(sizes.repetitions) * 2 * sum(kind.runs for kind in KINDS.values())


def plan(options: Options) -> Plan:
    """Each kind of traffic, with coalescing and without."""
    sizes = QUICK if options.quick else FULL
    return Plan(steps(sizes), SECONDS, lambda step: measure(options.wait, sizes, step))


def section(
    links: Mapping[str, Links], wait: str | None, memory_use: list[dict[str, int]]
) -> report.Section:
    """Frames per second; Linux's way to transmit at the top, every kind in `kinds`."""
    samples = {
        kind: (pair[True].samples[kind], pair[False].samples[kind]) for kind, pair in links.items()
    }
    gains = {kind: _gains(*both) for kind, both in samples.items()}
    values: dict[str, object] = {
        "coalesced_pps": _median(samples[LINUX][0].pps),
        "exit_pps": _median(samples[LINUX][1].pps),
        "gain_percent": _median(gains[LINUX]),
        "gain_interval": _interval(gains[LINUX]),
        "wait": wait or KINDS[LINUX].wait,
        "frame_bytes": LENGTH + PAYLOAD_AT,
        "frames": sum(
            link.frames for link in {id(n): n for p in links.values() for n in p.values()}.values()
        ),
        "kinds": {
            kind: {
                "wait": wait or KINDS[kind].wait,
                "coalesced": on.as_json(),
                "exit": off.as_json(),
                "gain_percent": _median(gains[kind]),
                "gain_interval": _interval(gains[kind]),
            }
            for kind, (on, off) in samples.items()
        },
        "rss_bytes": {"before": memory_use[0], "after": memory_use[-1]},
        "spread": {
            kind: {
                "coalesced_pps": _ends(on.pps),
                "exit_pps": _ends(off.pps),
                "gain_percent": _ends(gains[kind]),
            }
            for kind, (on, off) in samples.items()
        },
    }
    rows: list[report.Row] = []
    for kind, (ours, theirs) in samples.items():
        title = f"{KINDS[kind].title}, --wait {wait or KINDS[kind].wait}"
        if not gains[kind]:
            continue  # Ctrl-C came first
        gain = spread(gains[kind])
        rows += [
            (f"{title}, coalesced", spread(ours.pps), ours.remark()),
            (f"{title}, every write exits", spread(theirs.pps), theirs.remark()),
            ("  gain, %", gain, _remark(gain)),
        ]
    title = f"Frames of {LENGTH + PAYLOAD_AT} bytes to or from another process"
    return report.Section("e1000", values, title, "frames/s", rows)


def _gains(on: _Samples, off: _Samples) -> list[float]:
    return [(a / b - 1) * 100 for a, b in zip(on.pps, off.pps, strict=False)]


def _interval(samples: list[float]) -> list[float] | None:
    return [round(end, 3) for end in spread(samples).interval()] if samples else None


def _remark(gain: Spread) -> str:
    low, high = gain.interval()
    return f"of {len(gain.samples)} neighbours; the median is {low:.1f} to {high:.1f}, 95 % sure"


def _median(samples: list[float]) -> float | None:
    return round(statistics.median(samples), 3) if samples else None


def _ends(samples: list[float]) -> list[float] | None:
    return [round(min(samples), 3), round(max(samples), 3)] if samples else None


def _rss(link: Link) -> dict[str, int]:
    pids = {"hv": link.pid, "vmm": os.getpid()}
    return {side: int(psutil.Process(pid).memory_info().rss) for side, pid in pids.items()}
