"""A stress run of a user's ring: its properties, then its figures beside ours and the C floor's."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from coalesced.hv import shm
from coalesced.hv.errors import HostError
from coalesced.tools.errors import BadInput
from coalesced.tools.rings import figures, probe
from coalesced.tools.rings.probe import Offer
from coalesced.tools.runs import busy, progress
from coalesced.tools.runs.busy import Moment
from coalesced.tools.runs.json_members import INLINE
from coalesced.tools.runs.report import print_json, print_table
from coalesced.tools.stress.properties import PROPERTIES, Found, Trials

SECONDS = 10.0
_TRIAL_SECONDS = 5.0  # beside a number of entries, for each other property
_LONG_SLICE = 1.0  # seconds of a pair, towards a number of entries
_ROUNDS = 3


@dataclass(frozen=True)
class OwnRing:
    """The results of a run."""

    found: Found = field(metadata=INLINE)
    seconds: float
    entries_per_second: float
    seed: int
    leaked_segments: int
    complete: bool
    others_cpu_share: float
    ok: bool
    ring: str


def run(
    text: str, seed: int, seconds: float | None, entries: int | None, cpus: str | None
) -> OwnRing:
    """Try the ring of `--ring TEXT`; Ctrl-C ends it early. Raises BadInput."""
    two = len(os.sched_getaffinity(0)) > 1
    if cpus == "split" and not two:
        raise BadInput("--cpus split: expected two CPUs to run on, got one")
    offer = probe.offer_of(text)
    found = Found(properties=dict.fromkeys(PROPERTIES))
    placements = [cpus] if cpus else ["same", "split"] if two else ["same"]
    before, started, complete = set(shm.orphans()), time.monotonic(), True
    began = Moment.now()
    trials = Trials(offer, seed, found, placements)
    try:
        with progress.shown(1.0) as bar:
            for done, trial in enumerate(_schedule(offer, trials, seconds, entries)):
                trial()
                bar.show(f"{found.entries:,} entries", done / 7)
            try:
                _measure(offer, trials)
            except HostError as error:  # entries that do not get through
                trials.found.properties["lossless"] = False
                trials.found.failures.append(str(error))
    except KeyboardInterrupt:
        complete = False
    took = time.monotonic() - started
    leaked = len(set(shm.orphans()) - before)
    ok = found.ok and not leaked
    rate, share = found.entries / took, began.others_share()
    return OwnRing(found, took, rate, seed, leaked, complete, share, ok, offer.ring.name)


def _schedule(
    offer: Offer, trials: Trials, seconds: float | None, entries: int | None
) -> list[Callable[[], None]]:
    """The trials, each with its share of the time."""
    found = trials.found
    total = seconds or (SECONDS if entries is None else 4 * _TRIAL_SECONDS)

    def repeat(
        names: tuple[str, ...], share: float, trial: Callable[[], None]
    ) -> Callable[[], None]:
        def run() -> None:
            if not found.passes_entries:
                return  # of such a ring any other verdict would only repeat that
            end = time.monotonic() + share * total
            for name in names:
                found.properties[name] = True
            while time.monotonic() < end and all(found.properties[n] is not False for n in names):
                trial()

        return run

    def whole() -> None:
        end = time.monotonic() + (seconds or 1e9)
        while found.entries < (entries or 0) and found.ok and time.monotonic() < end:
            trials.at_full_speed(_LONG_SLICE)

    wanted = [repeat(PROPERTIES[:3], 0.25, trials.at_full_speed)]
    for claim, name, share, trial in (
        ("no-lost-wakeup", "never_sleeps_through_news", 0.35, lambda: trials.sleeping(0.25)),
        ("producer-death", "survives_producer_death", 0.15, lambda: trials.dying("producer")),
        ("consumer-death", "survives_consumer_death", 0.15, lambda: trials.dying("consumer")),
        ("hostile-indices", "hostile_indices", 0.1, trials.hostile),
    ):
        if claim in offer.claims:
            wanted.append(repeat((name,), share, trial))
    return [*wanted, whole] if entries is not None else wanted


def _measure(offer: Offer, trials: Trials) -> None:
    """Throughput and latency of all three, in turns."""
    found = trials.found
    if not found.passes_entries:
        return
    rings = [offer.ring, probe.ours(), probe.floor()]
    taken: dict[str, list[float]] = {ring.name: [] for ring in rings}
    for _ in range(_ROUNDS):
        for ring in rings:
            taken[ring.name].append(figures.nanoseconds(ring, trials.apart))
    medians = {name: statistics.median(ns) for name, ns in taken.items()}
    found.ns_per_entry = medians.pop(offer.ring.name)
    found.beside = medians
    found.latency_us = {ring.name: figures.latency(ring, trials.apart) for ring in rings}


_WORDS = {True: "holds", False: "DOES NOT HOLD", None: ""}


def show(result: OwnRing, json: bool) -> None:
    """Print the report; failures go to stderr."""
    if json:
        print_json(result)
        return
    from rich.table import Table  # noqa: PLC0415 - after the run: start-up time

    found = result.found
    table = Table(
        title=f"{result.ring}, seed {result.seed}", title_justify="left", show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    for name, value in found.properties.items():
        table.add_row(name.replace("_", " "), _WORDS[value] or found.untried)
    for name in ("entries", "lost", "duplicated", "redelivered", "reordered", "torn", "kills",
                 "recovered", "corruptions", "waits"):  # fmt: skip
        table.add_row(name, f"{getattr(found, name):,}")
    if found.ns_per_entry is not None:
        table.add_row("ns per entry", f"{found.ns_per_entry:,.1f}")
    for name, ns in found.beside.items():
        table.add_row(f"  {name}", f"{ns:,.1f}")
    for name, microseconds in found.latency_us.items():
        table.add_row(f"latency of {name}, µs", f"{microseconds:,.2f}")
    table.add_row("seconds", f"{result.seconds:,.1f}")
    table.add_row("CPU time of other processes", busy.remark(result.others_cpu_share))
    print_table(table)
    for failure in found.failures:
        sys.stderr.write(f"coalesced: {failure}\n")
    print(verdict(result))


def verdict(result: OwnRing) -> str:
    """One sentence."""
    wrong = [n.replace("_", " ") for n, holds in result.found.properties.items() if holds is False]
    if wrong:
        return f"It does not hold: {', '.join(wrong)}."
    return (
        "Every property that was tried holds."
        if result.complete
        else "Interrupted; nothing was wrong so far."
    )
