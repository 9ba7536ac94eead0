"""The benchmarks by name, and what one is."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coalesced.tools.bench.measure import Step

if TYPE_CHECKING:
    from coalesced.tools.bench.report import Section

# Benchmark: the module whose `plan(options)` says how it goes, in the order of `bench all`.
BENCHES = {
    "ring": "coalesced.tools.bench.ring",
    "exit": "coalesced.tools.bench.exits",
    "vga": "coalesced.tools.bench.vga",
    "e1000": "coalesced.tools.bench.e1000",
    "model": "coalesced.tools.bench.model",
}


@dataclass(frozen=True)
class Options:
    """What the command line asks for; None: the benchmark's own choice."""

    quick: bool = False
    ring_pages: int | None = None
    wait: str | None = None
    on_kvm: bool = False  # this machine's KVM as well


class Plan(NamedTuple):
    """A benchmark that is ready to run."""

    steps: int  # calls of `step` at most
    seconds: float  # about, on a quiet machine: its share of the progress bar
    run: Callable[[Step], Section]


def plan(name: str, options: Options) -> Plan:
    """How the benchmark of that name goes."""
    module = importlib.import_module(BENCHES[name])
    made: Plan = module.plan(options)
    return made
