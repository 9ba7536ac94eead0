"""The data of the page, from the VMM's answers: the ring by device, changed tiles, a minute."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.tools.live.link import RING_BYTES, Link, Message

TILE: Final = 32
"""Pixels of a tile's side; those at the right and bottom edge are smaller."""
MINUTE: Final = 60
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Picture:
    """The screen as it was seen last."""

    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))

    def show(self, pixels: NDArray[np.uint8]) -> set[int]:
        """Take a new picture; the numbers of the tiles that differ, row by row."""
        old, self.pixels = self.pixels, pixels
        if old.shape != pixels.shape:
            return set(range(self.tiles))
        height, width = pixels.shape[:2]
        differ = (old != pixels).reshape(height, width * 3)
        differ = np.logical_or.reduceat(differ, np.arange(0, height, TILE), axis=0)
        differ = np.logical_or.reduceat(differ, np.arange(0, width * 3, TILE * 3), axis=1)
        return set(np.flatnonzero(differ).tolist())

    @property
    def tiles(self) -> int:
        """Number of tiles of the picture."""
        return -(-len(self.pixels) // TILE) * self._across

    @property
    def _across(self) -> int:
        width: int = self.pixels.shape[1]
        return -(-width // TILE)

    def tile(self, number: int) -> bytes:
        """The pixels of a tile, RGB, row by row."""
        row, column = divmod(number, self._across)
        top, left = row * TILE, column * TILE
        return self.pixels[top : top + TILE, left : left + TILE].tobytes()


class Ring:
    """The queued entries, by the region that each is for, and since when each has been seen."""

    def __init__(self) -> None:
        self.entries: NDArray[np.void] = np.zeros(0, KVM_COALESCED_MMIO)
        self.first = 0
        self._slots = 1
        self._seen: deque[tuple[int, float]] = deque()  # (entries seen until then, when)

    def show(self, entries: NDArray[np.void], drained: int, slots: int) -> None:
        """Take the entries behind the first `drained` ones."""
        self.entries, self._slots = entries, slots
        self.first = drained
        last = drained + len(entries)
        while self._seen and (self._seen[0][0] <= drained or self._seen[-1][0] > last):
            self._seen.popleft()
        if len(entries) and (not self._seen or self._seen[-1][0] < last):
            self._seen.append((last, time.monotonic()))

    def age(self, number: int) -> float:
        """Seconds since entry `number` of the queue was first seen."""
        for last, when in self._seen:
            if self.first + number < last:
                return time.monotonic() - when
        return 0.0

    def entry_in(self, slot: int) -> int | None:
        """The number in the queue of the entry in a slot; None for a free slot."""
        number = (slot - self.first) % self._slots
        return number if number < len(self.entries) else None

    def letters(self, regions: list[Message]) -> str:
        """A letter for each entry: `a` for the first region, `z` for none of them."""
        zones = sorted(
            (pio, address, size, number)
            for number, region in enumerate(regions)
            for address, size, pio in region["zones"]
        )
        found = np.full(len(self.entries), 25)
        for pio, address, size, number in zones:
            at = self.entries["phys_addr"]
            inside = (self.entries["pio"] == pio) & (at >= address) & (at < address + size)
            found[inside] = min(number, 24)
        return "".join(_LETTERS[number] for number in found.tolist())


class Rates:
    """Counts per second over the last minute."""

    def __init__(self) -> None:
        self.seconds: deque[Message] = deque(maxlen=MINUTE)
        self._last: Message = {}
        self._when = 0.0
        self.cost = 0.0
        """Percent of the VMM's time that answers took in the last second."""

    def note(self, answer: Message) -> None:
        """Take an answer of the VMM; every second becomes a row."""
        now = time.monotonic()
        if not self._last or answer["writes"] < self._last["writes"]:
            self._last, self._when = answer, now
            self.seconds.clear()
        passed = now - self._when
        if passed < 1:
            return
        self.cost = 100 * (answer["spent"] - self._last["spent"]) / passed
        before = self._last["exits_by"]
        row = {
            reason: round((count - before.get(reason, 0)) / passed, 1)
            for reason, count in answer["exits_by"].items()
        }
        row["queued"] = round((answer["coalesced"] - self._last["coalesced"]) / passed, 1)
        self.seconds.append(row)
        self._last, self._when = answer, now


class Load:
    """CPU time of processes, as shares of a CPU since the last look."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def of(self, pid: int | None) -> float | None:
        """Percent of a CPU; None for a process that has ended."""
        if pid is None:
            return None
        try:
            process = self._known.setdefault(pid, psutil.Process(pid))
            return float(process.cpu_percent())
        except psutil.Error:
            return None


def rings_of(link: Link, answer: Message, before: list[Ring]) -> list[Ring]:
    """The rings of an answer, the VM's first, with their entries in the shared memory; `before`:
    those of the last answer.

    To the answer, and to each of its own rings, what the page draws is added: `first` becomes a
    slot, and `last`, a letter for each entry, and the seconds that the oldest has been seen.
    """
    told, slots, at = [answer, *answer["own"]], answer["slots"], 0
    rings = [*before, *(Ring() for _ in told)][: len(told)]
    for ring, each in zip(rings, told, strict=True):
        count, first = each["pending"], each["first"]
        end = at + count * KVM_COALESCED_MMIO.itemsize
        entries = np.frombuffer(link.memory[at:end], KVM_COALESCED_MMIO)
        ring.show(entries, first, slots)
        each["first"], each["last"] = first % slots, (first + count) % slots
        each["letters"] = ring.letters(answer["regions"])
        each["oldest"] = round(ring.age(0), 2) if count else None
        at = end
    return rings


def picture_of(link: Link, height: int, width: int) -> NDArray[np.uint8]:
    """The picture in the shared memory."""
    data = link.memory[RING_BYTES : RING_BYTES + height * width * 3]
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)
