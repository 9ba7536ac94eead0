"""`coalesced stress`: producer against consumer, sequence-checked; kills; hostile peers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated

import typer

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools.commands.options import Cpus, JsonOption, Wait, staleness_of
from coalesced.tools.errors import BadInput, Interrupted
from coalesced.tools.stress.cores.broken import BROKEN
from coalesced.tools.stress.wanted import Wanted

_MOST = 10**18


class Side(StrEnum):
    """--kill"""

    hv = "hv"
    vmm = "vmm"
    both = "both"


def number(text: str) -> int:
    """A whole number from 1 on, also as 1e9. Raises BadParameter."""
    with suppress(ValueError, InvalidOperation):
        value = Decimal(text) if "e" in text.lower() else int(text)
        if 1 <= value <= _MOST and value == int(value):
            return int(value)
    raise typer.BadParameter(f"{text}: expected a whole number, 1 to 1e18")


SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--seconds", metavar="S", help="Duration (default 10 without --entries and --times)."
    ),
]
EntriesOption = Annotated[
    int | None,
    typer.Option(
        "--entries", metavar="N", parser=number, help="Least number of entries, such as 1e9."
    ),
]
KillOption = Annotated[
    Side | None, typer.Option("--kill", help="Kill a side with SIGKILL, at random instants.")
]
StopOption = Annotated[
    bool, typer.Option("--stop", help="Stop and continue either side, or both, by signals.")
]
CorruptOption = Annotated[
    bool,
    typer.Option("--corrupt", help="Corrupt segments, pipes, rings' descriptors and messages."),
]
TimesOption = Annotated[
    int | None,
    typer.Option(
        "--times", metavar="N", parser=number, help="Number of kills or corruptions, such as 1e5."
    ),
]
BreakOption = Annotated[
    str | None,
    typer.Option(
        "--break",
        metavar="NAME",
        help=f"Use a broken core and end when the fault shows: {', '.join(BROKEN)}.",
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of all random choices.")
]
PagesOption = Annotated[
    int | None,
    typer.Option(
        "--ring-pages",
        metavar="N",
        min=1,
        max=RING_PAGES_MAX,
        help="Pages of the ring (default: several sizes in turn).",
    ),
]
WaitOption = Annotated[
    Wait | None, typer.Option("--wait", help="How the sides wait (default: each way in turn).")
]
CpusOption = Annotated[
    Cpus | None,
    typer.Option("--cpus", help="Placement of the processes (default: same and split in turn)."),
]
StalenessOption = Annotated[
    str | None,
    typer.Option(
        "--staleness", metavar="MS|off", help="Period of the flush timer (default: several)."
    ),
]
VcpusOption = Annotated[
    int,
    typer.Option(
        "--vcpus", metavar="N", min=1, max=4, help="vCPUs that write at the same time, 1 to 4."
    ),
]
RingsOption = Annotated[
    int,
    typer.Option(
        "--rings",
        metavar="N",
        min=0,
        max=4,
        help="Own rings beside the VM's, at most one for each vCPU; the vCPUs write to all.",
    ),
]
RingOption = Annotated[
    str | None,
    typer.Option(
        "--ring",
        metavar="FILE",
        help="Try a ring of your own: FILE.h, FILE.c, FILE.so or FILE.py:CLASS.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add `stress` to the program."""
    app.command(
        "stress",
        epilog="Examples: coalesced stress --seconds 60 · coalesced stress --entries 1e9 · "
        "coalesced stress --kill both --times 1000 --vcpus 4 --rings 3 · "
        "coalesced stress --corrupt --times 1e5 · "
        "coalesced stress --break full-check-2009 --wait poll · "
        "coalesced stress --ring examples/rings/correct.h",
    )(stress)


def stress(
    seconds: SecondsOption = None,
    entries: EntriesOption = None,
    kill: KillOption = None,
    stop: StopOption = False,
    corrupt: CorruptOption = False,
    times: TimesOption = None,
    broken: BreakOption = None,
    seed: SeedOption = None,
    ring_pages: PagesOption = None,
    wait: WaitOption = None,
    cpus: CpusOption = None,
    staleness: StalenessOption = None,
    vcpus: VcpusOption = 1,
    rings: RingsOption = 0,
    ring: RingOption = None,
    json: JsonOption = False,
) -> int:
    """Run a guest against a VMM at full speed; check the number and bytes of every entry.

    Counts lost, duplicated, reordered and torn entries, over ring sizes, start indices, burst
    lengths, wait policies and placements, with exits, interrupts and timed flushes in between.
    Exit status 1: something is wrong.
    """
    if ring is not None:
        refused = {
            "--kill": kill, "--stop": stop, "--corrupt": corrupt, "--times": times,
            "--break": broken, "--ring-pages": ring_pages, "--wait": wait, "--staleness": staleness,
            "--vcpus": vcpus > 1, "--rings": rings > 0,
        }  # fmt: skip
        return _own_ring(ring, refused, seed, seconds, entries, cpus, json)
    if broken is not None and broken not in BROKEN:
        raise BadInput(f"--break {broken}: expected one of {', '.join(BROKEN)}")
    wanted = Wanted(
        seed=secrets.randbits(32) if seed is None else seed,
        seconds=seconds,
        entries=entries,
        times=times,
        kill=kill,
        stop=stop,
        corrupt=corrupt,
        broken=broken,
        ring_pages=ring_pages,
        wait=wait,
        cpus=cpus,
        staleness=None if staleness is None else staleness_of(staleness) or 0.0,
        vcpus=vcpus,
        rings=rings,
    )
    from coalesced.tools.stress import cores  # noqa: PLC0415 - before anything loads hv.core

    cores.use_for(wanted)
    from coalesced.tools.stress import jobs, report  # noqa: PLC0415

    result = jobs.run(wanted)
    report.show(result, json)
    if not result.complete:
        raise Interrupted(report.in_short(result))
    return 0 if result.totals.ok else 1


def _own_ring(
    ring: str,
    refused: Mapping[str, object],
    seed: int | None,
    seconds: float | None,
    entries: int | None,
    cpus: Cpus | None,
    json: bool,
) -> int:
    for option, value in refused.items():
        if value:
            raise BadInput(f"{option} cannot be used with --ring: a ring's own claims are tried")
    from coalesced.tools.stress import own_ring  # noqa: PLC0415 - start-up time

    chosen = secrets.randbits(32) if seed is None else seed
    Wanted(chosen, seconds, entries)  # checks the numbers
    result = own_ring.run(ring, chosen, seconds, entries, cpus)
    own_ring.show(result, json)
    if not result.complete:
        raise Interrupted(f"{result.found.entries:,} entries, seed {chosen}")
    return 0 if result.ok else 1
