"""What coalescing is worth to a network card: frames per second, and CPU time per frame."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import psutil

from hv.doorbell import WaitPolicy
from hv.process import GuestProcess
from tools import devices
from tools.bench import host, report
from tools.bench.far_end import FarProcess, Order
from tools.bench.measure import Step, interleaved, rounds, spread
from tools.bench.registry import Options, Plan
from tools.exchange import LOOPBACK, free_ports
from tools.guests.network import memory
from tools.guests.network.packets import PAYLOAD_AT
from tools.options import NetworkOptions
from vmm import pc
from vmm.accel.process import ProcessAccelerator
from vmm.machine import Machine

GUEST: Final = "tools.guests.network.bench:run"
LENGTH: Final = 1428  # bytes of UDP payload: frames of 1,470 bytes
WINDOW: Final = 128  # frames under way
SECONDS: Final = 40.0  # about what all of it takes
STALENESS: Final = 0.010  # seconds, as every command with a network has it

LINUX: Final = "transmit"
BURST: Final = "transmit_burst"
RECEIVE: Final = "receive"


class Kind(NamedTuple):
    """A kind of traffic."""

    title: str
    order: str
    each: int  # frames for each write of the tail
    ack_every: int  # frames that the far end acknowledges by one


# The first is what the recorded trace of Linux's driver shows: 20,122 writes of TDT and 18,793 of
# RDT, an acknowledgement for each transmission. Linux batches both where the stack lets it.
KINDS: Final = {
    LINUX: Kind("transmit, TDT for each frame as in Linux's trace", "transmit", 1, 1),
    BURST: Kind("transmit, TDT for 32 frames", "transmit", 32, 32),
    RECEIVE: Kind("receive", "receive", 1, 32),
}


class Sizes(NamedTuple):
    """How much a measurement is; frames per repetition."""

    repetitions: int
    frames: int
    singles: int  # where each frame exits

    def frames_of(self, kind: str) -> int:
        return self.singles if kind == LINUX else self.frames


FULL: Final = Sizes(repetitions=11, frames=20_000, singles=5_000)  # a million frames and more
QUICK: Final = Sizes(repetitions=2, frames=4_000, singles=1_000)


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
    """A guest with a card, and a far end in a process of its own."""

    def __init__(self, policy: WaitPolicy, placement: str, coalesce: bool) -> None:
        ours, theirs = free_ports()
        self.samples = {kind: _Samples() for kind in KINDS}
        self.runs = self.frames = 0
        self._cpu = host.cpus_of(placement)[0]
        with ExitStack() as stack:
            self._far = FarProcess(theirs, ours)
            stack.callback(self._far.close)
            process = GuestProcess()
            self.pid = process.pid
            with host.affinity_kept():
                accel = ProcessAccelerator(process, 1, policy, placement)
            self._machine = Machine(accel, coalesce=coalesce, staleness=STALENESS)
            stack.callback(self._machine.close)
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
        self.runs += 1
        self.frames += frames
        if self.runs > len(KINDS):  # before that it warms up
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


def measure(wait: str, sizes: Sizes, step: Step) -> report.Section:
    """Measure each kind of traffic with coalescing and without, in turns."""
    policy, placement = WaitPolicy.named(wait), host.placements()[0]
    memory_use: list[dict[str, int]] = []
    with ExitStack() as stack:
        links: dict[bool, Link] = {}
        for coalesce in (True, False):
            links[coalesce] = Link(policy, placement, coalesce)
            stack.callback(links[coalesce].close)
        subjects = {
            f"{kind} {coalesce}": partial(link.measure, kind, sizes.frames_of(kind))
            for kind in KINDS
            for coalesce, link in links.items()
        }

        def counted() -> None:
            # After each kind ran once nothing is left to be allocated.
            if links[False].runs == len(KINDS) and not memory_use:
                memory_use.append(_rss(links[True]))
            step()

        interleaved(subjects, sizes.repetitions, counted)
        memory_use.append(_rss(links[True]))
    return section(links[True], links[False], wait, memory_use)


def steps(sizes: Sizes) -> int:
    """Calls of `step` that `measure` makes."""
    return rounds(sizes.repetitions) * 2 * len(KINDS)


def plan(options: Options) -> Plan:
    """Each kind of traffic, with coalescing and without."""
    sizes = QUICK if options.quick else FULL
    wait = options.wait or "adaptive"
    return Plan(steps(sizes), SECONDS, lambda step: measure(wait, sizes, step))


def section(on: Link, off: Link, wait: str, memory_use: list[dict[str, int]]) -> report.Section:
    """Frames per second; Linux's way to transmit at the top, every kind in `kinds`."""
    gains = {kind: _gains(on.samples[kind], off.samples[kind]) for kind in KINDS}
    values: dict[str, object] = {
        "coalesced_pps": _median(on.samples[LINUX].pps),
        "exit_pps": _median(off.samples[LINUX].pps),
        "gain_percent": _median(gains[LINUX]),
        "wait": wait,
        "frame_bytes": LENGTH + PAYLOAD_AT,
        "frames": on.frames + off.frames,
        "kinds": {
            kind: {
                "coalesced": on.samples[kind].as_json(),
                "exit": off.samples[kind].as_json(),
                "gain_percent": _median(gains[kind]),
            }
            for kind in KINDS
        },
        "rss_bytes": {"before": memory_use[0], "after": memory_use[-1]},
        "spread": {
            kind: {
                "coalesced_pps": _ends(on.samples[kind].pps),
                "exit_pps": _ends(off.samples[kind].pps),
                "gain_percent": _ends(gains[kind]),
            }
            for kind in KINDS
        },
    }
    rows: list[report.Row] = []
    for kind, (title, *_) in KINDS.items():
        ours, theirs = on.samples[kind], off.samples[kind]
        if not gains[kind]:
            continue  # Ctrl-C came first
        gain = spread(gains[kind])
        rows += [
            (f"{title}, coalesced", spread(ours.pps), ours.remark()),
            (f"{title}, every write exits", spread(theirs.pps), theirs.remark()),
            ("  gain, %", gain, "of two runs next to each other"),
        ]
    title = f"Frames of {LENGTH + PAYLOAD_AT} bytes to or from another process"
    return report.Section("e1000", values, title, "frames/s", rows)


def _gains(on: _Samples, off: _Samples) -> list[float]:
    return [(a / b - 1) * 100 for a, b in zip(on.pps, off.pps, strict=False)]


def _median(samples: list[float]) -> float | None:
    return round(statistics.median(samples), 3) if samples else None


def _ends(samples: list[float]) -> list[float] | None:
    return [round(min(samples), 3), round(max(samples), 3)] if samples else None


def _rss(link: Link) -> dict[str, int]:
    pids = {"hv": link.pid, "vmm": os.getpid()}
    return {side: int(psutil.Process(pid).memory_info().rss) for side, pid in pids.items()}
