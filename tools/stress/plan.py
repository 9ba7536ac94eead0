"""The pairs of a run, all from one seed, so that the run can be repeated."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from itertools import product

from coalesced.hv import abi
from coalesced.tools.stress.pattern import Style
from coalesced.tools.stress.setups import Setup

_PAGES = (1, 1, 2, 3, 8, 16, 16)
_LONGEST = (1, 8, 40, 300, 3000, 30000)
_STALENESS = (0.0003, 0.001, 0.005)
_POSTED = 0.5  # share of the pairs with bells
_REMAPS = 0.01  # seconds between two, of a pair that is corrupted: each takes as long as a proof


@dataclass(frozen=True)
class Pins:
    """Values fixed by the command line; None: every value in turn."""

    ring_pages: int | None = None
    wait: str | None = None
    cpus: str | None = None
    staleness: float | None = None  # seconds; 0.0: off
    vcpus: int = 1
    rings: int = 0


class Plan:
    """An endless row of setups: each wait policy on each placement before any is repeated.

    `random`: the generator for further choices about the pair of the last setup.
    """

    def __init__(self, seed: int, pins: Pins) -> None:
        self._seed = seed
        self._number = 0
        self._lane, self._lanes = 0, 1
        self._order = random.Random(seed)
        self._pins = pins
        self._stream = seed & 0xFFFF_FFFF
        self._turns: list[tuple[str, str]] = []

    def take_share(self, lane: int, lanes: int) -> None:
        """From now on take every `lanes`-th setup, and leave the rest to others."""
        self._lane, self._lanes = lane, lanes

    def _draw(self) -> tuple[str, str]:
        """Go on to the next setup; its wait policy and placement."""
        self._number += 1
        return self._turn()

    def next(self, entries: int = 0) -> Setup:
        """A setup whose guest writes at least `entries`; 0: until it is stopped."""
        wait, cpus = self._draw()
        while self._number % self._lanes != self._lane:
            wait, cpus = self._draw()
        # A generator per pair: the length of an earlier pair does not change later choices.
        self.random = random.Random(f"{self._seed} {self._number}")
        chance, pins = self.random, self._pins
        pages = pins.ring_pages or chance.choice(_PAGES)
        staleness = chance.choice(_STALENESS) if pins.staleness is None else pins.staleness
        bells = chance.choice((0.0, 0.001, 0.02))
        setup = Setup(
            ring_pages=pages,
            start=chance.randrange(abi.ring_slots(pages)),
            wait=wait,
            cpus=cpus,
            staleness=staleness,
            seed=self._stream,
            style=chance.choices(list(Style), (6, 2, 1))[0],
            entries=entries,
            longest=chance.choices(_LONGEST, (1, 2, 4, 2, 5, 5))[0],
            bells=bells,
            remaps=chance.choice((0.0, 0.0, 0.003)),
            luck=chance.getrandbits(32),
            vcpus=pins.vcpus,
            rings=pins.rings,
            lane=self._lane,
        )
        return self._with_bells(setup)

    def _with_bells(self, setup: Setup) -> Setup:
        """Have either posted writes or timed flushes bring a bell to its device.

        Where writes are posted nothing is flushed by time: it would hide a wake-up that is lost.
        """
        if setup.bells and self.random.random() < _POSTED:
            staleness = self._pins.staleness or 0.0
            return replace(setup, posted=True, staleness=staleness)
        return setup if setup.staleness else replace(setup, bells=0.0)

    def short(self, strict: bool = True) -> Setup:
        """A setup for kills and corruptions: small rings, frequent exits."""
        setup = self.next()
        return replace(
            setup,
            ring_pages=self._pins.ring_pages or min(setup.ring_pages, 2),
            start=0 if self._pins.ring_pages is None and setup.ring_pages > 2 else setup.start,
            style=self.random.choices(list(Style), (1, 1, 1) if strict else (6, 3, 1))[0],
            longest=self.random.choice((4, 64, 400) if strict else (30, 300)),
            bells=setup.bells if strict else 0.0,
            remaps=setup.remaps if strict or not setup.remaps else _REMAPS,
            strict=strict,
        )

    def _turn(self) -> tuple[str, str]:
        if not self._turns:
            waits = [self._pins.wait] if self._pins.wait else ["block", "adaptive", "poll"]
            places = ["same", "split"] if len(os.sched_getaffinity(0)) > 1 else ["same"]
            self._turns = list(product(waits, [self._pins.cpus] if self._pins.cpus else places))
            self._order.shuffle(self._turns)
        return self._turns.pop()
