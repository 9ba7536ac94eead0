"""`coalesced stress`: producer against consumer, sequence-checked; kills; hostile peers."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools.commands.options import Cpus, JsonOption, Wait, staleness_of
from coalesced.tools.errors import BadInput, Interrupted

_SECONDS = 10.0  # when nothing else is said


class Side(StrEnum):
    """--kill"""

    hv = "hv"
    vmm = "vmm"
    both = "both"


class Break(StrEnum):
    """--break; `tools.stress.cores.BREAKS`."""

    release_last = "release-last"
    acquire_last = "acquire-last"
    release_first = "release-first"
    acquire_first = "acquire-first"
    wakeup_fence = "wakeup-fence"
    full_check_2009 = "full-check-2009"
    double_read = "double-read"


@dataclass(frozen=True)
class Wanted:
    """What a stress run is to do."""

    seconds: float | None
    entries: int | None
    times: int | None
    kill: str | None
    stop: bool
    corrupt: bool
    broken: str | None
    seed: int
    ring_pages: int | None
    wait: str | None
    cpus: str | None
    staleness: float | None  # seconds; 0.0: off


def register(app: typer.Typer) -> None:
    """Add `stress` to the program."""
    app.command(
        "stress",
        epilog="Examples: coalesced stress --seconds 60 · coalesced stress --entries 1000000000 · "
        "coalesced stress --kill both --times 1000 · coalesced stress --corrupt --times 100000 · "
        "coalesced stress --break full-check-2009 --wait poll",
    )(stress)


def stress(
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help="How long; 10 when nothing else is said."),
    ] = None,
    entries: Annotated[
        int | None, typer.Option("--entries", metavar="N", min=1, help="Entries at least.")
    ] = None,
    kill: Annotated[
        Side | None, typer.Option("--kill", help="SIGKILL for a side, at any instant.")
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="SIGSTOP and SIGCONT for either side, or both.")
    ] = False,
    corrupt: Annotated[
        bool,
        typer.Option("--corrupt", help="Meddle with segments, pipes, the control socket; lie."),
    ] = False,
    times: Annotated[
        int | None,
        typer.Option("--times", metavar="N", min=1, help="So many kills, or corruptions."),
    ] = None,
    broken: Annotated[
        Break | None,
        typer.Option("--break", help="Use a core with this one thing wrong; ends when it shows."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Repeat the choices of an earlier run.")
    ] = None,
    ring_pages: Annotated[
        int | None,
        typer.Option(
            "--ring-pages",
            metavar="N",
            min=1,
            max=RING_PAGES_MAX,
            help="This ring size only; else several in turn.",
        ),
    ] = None,
    wait: Annotated[
        Wait | None, typer.Option("--wait", help="This policy only; else each in turn.")
    ] = None,
    cpus: Annotated[
        Cpus | None, typer.Option("--cpus", help="This placement only; else same and split.")
    ] = None,
    staleness: Annotated[
        str | None,
        typer.Option("--staleness", metavar="MS|off", help="This flush timer only; else several."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """A guest process against a VMM process at full speed: every entry is numbered and checked.

    Lost, duplicated, reordered and torn entries are counted, over ring sizes, start indices, burst
    lengths, wait policies and placements, with exits, interrupts and timed flushes in between.
    """
    if seconds is not None and not 0 < seconds <= 1e6:
        raise BadInput(f"--seconds {seconds:g}: expected a number above 0, at most 1000000")
    if times is not None and kill is None and not corrupt:
        raise BadInput("--times: expected --kill or --corrupt with it")
    if broken is Break.double_read and kill is None:
        corrupt = True  # only a hostile peer can bring it out
    if seconds is None and entries is None and times is None:
        seconds = _SECONDS
    wanted = Wanted(
        seconds=seconds,
        entries=entries,
        times=times,
        kill=kill.value if kill else None,
        stop=stop,
        corrupt=corrupt,
        broken=broken.value if broken else None,
        seed=secrets.randbits(32) if seed is None else seed,
        ring_pages=ring_pages,
        wait=wait.value if wait else None,
        cpus=cpus.value if cpus else None,
        staleness=None if staleness is None else staleness_of(staleness) or 0.0,
    )
    from coalesced.tools.stress import cores  # noqa: PLC0415 - before anything loads hv.core

    if wanted.broken or wanted.kill:
        cores.use(wanted.broken or cores.INJECTED)
    from coalesced.tools.stress import report, session  # noqa: PLC0415

    result = session.run(wanted)
    report.show(wanted, result, json)
    if not result.complete:
        totals = result.totals
        raise Interrupted(
            f"{totals.entries:,} entries, {totals.kills:,} kills, {totals.corruptions:,} "
            f"corruptions, seed {wanted.seed}"
        )
    raise typer.Exit(0 if result.totals.ok else 1)
