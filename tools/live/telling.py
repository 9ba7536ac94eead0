"""Explains each access of a guest that is held in a sentence."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.tools.runs.story import DRAINED, QUEUED, VERBS, place, why_it_exits
from coalesced.tools.runs.words import plural
from coalesced.vmm.drain import Queue
from coalesced.vmm.machine import Machine

_KEPT: Final = 40


class Telling:
    """An observer of the machine while the guest is held, and only then."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lines: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._count = 0
        self._seen: dict[Queue, int] = {}  # writes queued in each ring that were described
        self._active = False
        self.start()

    def start(self) -> None:
        """The guest is held from now on."""
        if not self._active:
            self._active = True
            self._seen = {queue: _queued(queue) for queue in self._machine.queues}
            self._machine.observe(self)

    def stop(self) -> None:
        """The guest runs freely from now on."""
        if self._active:
            self._active = False
            self._machine.ignore(self)

    def lines(self) -> list[tuple[int, str]]:
        """The last sentences with their numbers, the newest last."""
        return list(self._lines)

    def step(self) -> None:
        """The guest waits again: describe the writes that it has queued."""
        if not self._active:
            return
        for queue in self._machine.queues:
            new = _queued(queue) - self._seen.setdefault(queue, 0)
            entries = queue.look()[-new:].tolist() if new > 0 else []
            for address, size, pio, value in entries:
                self._tell_queued(queue, self._space(bool(pio)), address, size, value)

    def access(self, kind: str, space: AddressSpace, address: int, size: int, value: int) -> None:
        """An access that exited."""
        port = space is self._machine.ports
        why = why_it_exits(self._machine, kind, address, size, port)
        then = "answers" if kind == "read" else "takes it"
        self._tell(
            f"{VERBS[kind][port]} of {size} at {address:#x} ({place(space, address)}), value "
            f"{value:#x}: an exit, because {why}. The device {then}, then the guest goes on."
        )

    def batch(self, entries: NDArray[np.void]) -> None:
        """Writes out of the ring, on their way to the devices."""
        queue = self._machine.drained_now
        assert queue is not None
        count, first, slots = len(entries), queue.coalesced, queue.ring.core.slots
        self._seen[queue] = max(self._seen.get(queue, 0), first + count)
        self._tell(
            f"drain of {plural(count, 'queued write')}{_whose(queue)}, to the devices in order "
            f"{DRAINED}: first moves from {first % slots} to {(first + count) % slots}."
        )

    def _tell_queued(
        self, queue: Queue, space: AddressSpace, address: int, size: int, value: int
    ) -> None:
        slots = queue.ring.core.slots
        slot = self._seen[queue] % slots
        self._seen[queue] += 1
        verb = VERBS["write"][space is self._machine.ports]
        self._tell(
            f"{verb} of {size} at {address:#x} ({place(space, address)}), value {value:#x}: "
            f"inside a zone, so it is queued in slot {slot}{_whose(queue)} {QUEUED} and last "
            f"moves to {(slot + 1) % slots}. The guest goes on at once."
        )

    def _space(self, port: bool) -> AddressSpace:
        return self._machine.ports if port else self._machine.memory

    def _tell(self, line: str) -> None:
        self._count += 1
        self._lines.append((self._count, line))


def _queued(queue: Queue) -> int:
    """Writes queued in a ring since the start, whether drained or not."""
    return queue.coalesced + queue.ring.pending()


def _whose(queue: Queue) -> str:
    return "" if queue.own is None else f" of {queue.name}'s ring"
