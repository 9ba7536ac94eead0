"""A boot under QEMU on KVM, watched by the kernel's tracepoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import numpy as np

from coalesced.tools.boot import recorded, tracefs
from coalesced.tools.boot.against import cause_of, decided_by_time
from coalesced.tools.boot.exits import Log
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.machine import Hardware
from coalesced.tools.boot.qemu import CAUSES, Qemu, program
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.events import Events
from coalesced.tools.traces.reader import Reader

_LOOK_EVERY: Final = 0.05  # seconds
_MORE: Final = 1.0  # seconds for what comes behind the last exit of the other world
QUIET: Final = 20.0
"""Seconds without an exit that does not depend on time, after which the boot is over."""


def check() -> None:
    """Raise BadInput unless this machine has QEMU, KVM, tracefs and the right to read it."""
    program()
    tracefs.root()


def boot(image: Image, hardware: Hardware, like: Log, seconds: float | None) -> Log:
    """The log of QEMU: it ends when it has the exits of `like`, is quiet, or after `seconds`.

    Raises BadInput if QEMU does not start, or ends, or events are lost.
    """
    with closing(Qemu(image, hardware)) as qemu, tracefs.instance(qemu.threads) as trace:
        reader = Reader()
        qemu.go()
        end = _End(like, seconds)
        blocks = _blocks(qemu, trace, end)
        for events in reader.read(blocks):
            end.add(events)
        recorded.check_complete(reader, "--against qemu")
        if not len(end.events):
            raise BadInput("--against qemu: the kernel showed no access of QEMU's guest")
        return recorded.log_of(end.events, like.name)


def _blocks(qemu: Qemu, trace: tracefs.Instance, end: _End) -> Iterator[bytes]:
    while not end.reached():
        if not qemu.runs:
            raise BadInput(qemu.complaint())
        if block := trace.take():
            yield block
        else:
            time.sleep(_LOOK_EVERY)


class _End:
    """Collects the events of a boot, and knows when it is over."""

    def __init__(self, like: Log, seconds: float | None) -> None:
        self._like = {
            key: count for key, count in like.counts.items() if not cause_of(key[1], CAUSES)
        }
        self._name = like.name
        self._parts: list[Events] = []
        self._new = False
        self._seconds = seconds
        self._began = self._changed = time.monotonic()
        self._next_look = 0.0
        self._decided = 0
        self._complete = 0.0  # since when it has all exits of the other world

    @property
    def events(self) -> Events:
        """All of them, in the order of time: CPUs may be read in another one."""
        whole = Events.joined([Events.none(), *self._parts])
        return whole.take(np.argsort(whole.time, kind="stable"))

    def add(self, events: Events) -> None:
        """Add a part."""
        self._parts.append(events)
        self._new = True

    def reached(self) -> bool:
        """Whether it is over."""
        now = time.monotonic()
        if self._seconds is not None:
            return now - self._began >= self._seconds
        if self._new and now >= self._next_look:
            self._new = False
            self._look()
            # Looking at everything again takes at most a tenth of the time.
            self._next_look = now + 10 * (time.monotonic() - now)
        complete = self._complete and now - self._complete >= _MORE
        return bool(complete) or now - self._changed >= QUIET

    def _look(self) -> None:
        counts = recorded.log_of(self.events, self._name).counts
        decided = sum(n for (_, place), n in counts.items() if not decided_by_time(place))
        now = time.monotonic()
        if decided != self._decided:
            self._decided, self._changed = decided, now
        if not self._complete and all(counts[key] >= n for key, n in self._like.items()):
            self._complete = now
