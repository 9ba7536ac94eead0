"""The benchmarks by name, and their common interface."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coalesced.tools.bench.measure import Step

if TYPE_CHECKING:
    from coalesced.tools.bench.report import Report, Section


class Bench(NamedTuple):
    """A benchmark: its module, whose `plan(options)` prepares it, and its command."""

    module: str
    help: str
    example: str = ""  # further arguments
    options: tuple[str, ...] = ()  # of `Options`, beside --quick
    alone: bool = False  # not a part of `bench all`, which it would make too long


# In the order of `bench all`.
BENCHES = {
    "ring": Bench(
        "ring",
        "Nanoseconds to append and drain an entry of the ring, by ring size, burst and placement.",
        " --ring-pages 8 --plot ring.png",
        ("ring_pages", "ring"),
    ),
    "exit": Bench(
        "exits", "Microseconds of an exit's round trip, by wait policy and placement.", " --json"
    ),
    "doorbell": Bench(
        "doorbell",
        "Microseconds until a device acts on a write: as an exit, queued, posted, as an ioeventfd.",
        " --wait block --json",
        ("wait",),
    ),
    "vga": Bench(
        "vga",
        "Nanoseconds of a planar VGA write, from the guest's store to video memory, and in QEMU."
        "\n\nWith --accel kvm also on this machine's KVM, with a loop around KVM_RUN in C.",
        " --ring-pages 16 --wait poll",
        ("ring_pages", "wait", "accel"),
    ),
    "e1000": Bench(
        "e1000",
        "Frames per second and CPU time per frame of a network card, with and without coalescing.",
        " --iperf 192.0.2.1 --netdev tap,id=n0,ifname=tap0",
        ("wait", "iperf", "netdev", "rate", "seconds", "tail_every", "ip"),
    ),
    "boot": Bench(
        "boot",
        "Milliseconds until SeaBIOS shows its prompt, in two processes and on QEMU's TCG.",
        " --json",
    ),
    "live": Bench(
        "live",
        "Writes per second that a guest loses to the page of `live`, closed and open.",
        " --json",
    ),
    "model": Bench(
        "model",
        "The cost of a write as round trip, append and dispatch: fitted, and used to predict.",
    ),
    "growth": Bench(
        "growth",
        "Growth of costs with zones, regions, devices, ring, RAM, cards and a trace's length.",
        " --plot growth.png",
        alone=True,
    ),
    "vcpus": Bench(
        "vcpus",
        "Nanoseconds per write of 1 to 8 vCPUs on one ring, and of C threads on one or on many.",
        " --ring-pages 8 --plot vcpus.png",
        ("ring_pages",),
        alone=True,
    ),
    "rings": Bench(
        "rings",
        "Microseconds of a network card's exit while another vCPU draws on a screen, by rings: one "
        "or one each.",
        " --plot rings.png",
        ("ring_pages",),
        alone=True,
    ),
}


@dataclass(frozen=True)
class Options:
    """The options of a run; None: the benchmark's own choice."""

    quick: bool = False
    ring_pages: int | None = None
    ring: str | None = None  # a user's own
    wait: str | None = None
    on_kvm: bool = False  # measure this machine's KVM as well
    iperf: str | None = None  # HOST[:PORT] of a server, with `netdev`
    netdev: Sequence[str] = ()
    rate: str = "0"
    seconds: float = 5.0
    tail_every: int = 1
    ip: str = ""


class Plan(NamedTuple):
    """A benchmark that is ready to run."""

    steps: int  # calls of `step` at most
    seconds: float  # on a quiet machine, about
    run: Callable[[Step], Section]


def plan(name: str, options: Options) -> Plan:
    """Prepare the benchmark of that name."""
    module = importlib.import_module(f"coalesced.tools.bench.{BENCHES[name].module}")
    made: Plan = module.plan(options)
    return made


def measure(plans: Mapping[str, Plan]) -> Report:
    """Run benchmarks one after the other; Ctrl-C or an error ends the report early."""
    from coalesced.tools.bench import host  # noqa: PLC0415 - start-up time
    from coalesced.tools.bench.progress import shown  # noqa: PLC0415
    from coalesced.tools.bench.report import Report  # noqa: PLC0415
    from coalesced.tools.runs.busy import Moment  # noqa: PLC0415

    machine, began = host.describe(), Moment.now()
    sections: list[Section] = []
    try:
        with shown(sum(each.seconds for each in plans.values())) as progress:
            for name, each in plans.items():
                label = f"{name} ({len(sections) + 1} of {len(plans)})" if len(plans) > 1 else name
                sections.append(each.run(progress.part(label, each.steps, each.seconds)))
                if progress.stopped:
                    raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        return Report(machine, sections, error, began.others_share())
    return Report(machine, sections, None, began.others_share())
