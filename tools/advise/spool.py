"""The events of a recording in a temporary file, read in parts as often as it takes."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.errors import HostError
from coalesced.tools.advise import passes
from coalesced.tools.traces.events import EXITS, READS, WRITES, Events, Kind
from coalesced.vmm.zone import Zone

PART: Final = 1 << 15  # events that are read at once
# Interrupt controllers of a PC, which KVM plays itself: their writes never exit.
IN_KERNEL: Final = ((0xFEC00000, 0xFEC01000), (0xFEE00000, 0xFEF00000))
RECORD: Final = np.dtype(
    [
        ("address", "<u8"), ("value", "<u8"), ("time", "<i8"), ("line", "<i8"), ("count", "<u4"),
        ("thread", "<i4"), ("name", "<u4"), ("traits", "<u2"), ("size", "u1"), ("kind", "u1"),
    ]
)  # fmt: skip
RANGE: Final = np.dtype([("start", "<u8"), ("last", "<u8"), ("port", "<u4"), ("mark", "<u4")])
_CORRECTION: Final = np.dtype([("index", "<i8"), ("traits", "<i8")])

Records = NDArray[np.void]


class Whole(NamedTuple):
    """The recording as a whole. Without lines of exits every access counts as an exit."""

    has_exits: bool
    timed: bool  # every event has a time
    begin: int  # the first and the last time in nanoseconds, NO_TIME if none is known
    end: int
    events: int


def array_of(zones: Sequence[Zone], marks: Iterable[int] | None = None) -> NDArray[np.void]:
    """Zones for a pass, each with a mark."""
    given = [0] * len(zones) if marks is None else marks
    rows = [(z.address, z.end - 1, z.pio, mark) for z, mark in zip(zones, given, strict=True)]
    return np.array(rows, RANGE)


class Spool:
    """Events, which are added at the end and read in parts. The file has no name."""

    def __init__(self, part: int = PART) -> None:
        """`part`: the events that are read at once."""
        self.watch: Callable[[int], object] = abs  # called with the events that a pass took
        self._part = part
        self._count = 0
        self.stopped = False  # ends the passes that are under way
        try:
            self._fd, path = tempfile.mkstemp(prefix="coalesced-")
        except OSError as error:
            raise _no_room(error) from error
        weakref.finalize(self, os.close, self._fd)
        os.unlink(path)

    def __len__(self) -> int:
        return self._count

    def append(self, records: Records) -> None:
        """Add events. Raises HostError if there is no room."""
        data = memoryview(records.tobytes())
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise _no_room(error) from error
        self._count += len(records)

    def correct(self, corrections: bytes) -> None:
        """Give events other traits."""
        offset = RECORD.fields["traits"][1] if RECORD.fields else 0
        for index, traits in np.frombuffer(corrections, _CORRECTION).tolist():
            data = int(traits).to_bytes(2, "little")
            os.pwrite(self._fd, data, index * RECORD.itemsize + offset)

    def parts(self, backward: bool = False) -> Iterator[tuple[int, Records]]:
        """Each part with the index of its first event. The next part overwrites it."""
        room = np.empty(min(self._part, max(self._count, 1)), RECORD)
        starts = range(0, self._count, self._part)
        for start in reversed(starts) if backward else starts:
            count = min(self._part, self._count - start)
            into = room[:count].view(np.uint8).data
            at = start * RECORD.itemsize
            while into:
                got = os.preadv(self._fd, [into], at)
                into, at = into[got:], at + got
            yield start, room[:count]

    def through(self, step: passes.Pass, backward: bool = False) -> Any:
        """The results of a pass over all events."""
        for start, part in self.parts(backward):
            passes.run(step, part, start, backward)
            self.watch(len(part))
            if self.stopped:
                break
        return passes.end(step)

    def both(self, forward: passes.Pass, backward: passes.Pass) -> tuple[Any, Any]:
        """The results of two passes at the same time, one of them from the end."""
        if self._count <= self._part:
            return self.through(forward), self.through(backward, backward=True)
        with ThreadPoolExecutor(1) as other:
            found = other.submit(self.through, backward, True)
            try:
                return self.through(forward), found.result()
            except BaseException:
                self.stopped = True  # otherwise the end of the block waits for the other pass
                raise


def _no_room(error: OSError) -> HostError:
    return HostError(
        f"the events of a recording are kept in a file in {tempfile.gettempdir()} "
        f"(TMPDIR): {error.strerror or error}"
    )


def _traits() -> NDArray[np.uint16]:
    found = np.zeros(len(Kind), np.uint16)
    for kinds, trait in (
        (READS, passes.READ),
        (WRITES, passes.WRITE),
        (EXITS, passes.EXIT),
        ((Kind.IN, Kind.OUT), passes.PORT),
        ((Kind.LOAD_BEGINS,), passes.ANNOUNCED),
        ((Kind.EXIT_MMIO,), passes.EXIT_MMIO),
        ((Kind.EXIT_IO,), passes.EXIT_IO),
    ):
        found[list(kinds)] |= trait
    return found


_TRAITS: Final = _traits()
_MEMORY: Final = np.isin(np.arange(len(Kind)), (Kind.STORE, Kind.LOAD, Kind.LOAD_BEGINS))


def records_of(events: Events) -> Records:
    """Events as they are kept."""
    found = np.empty(len(events), RECORD)
    for field in ("address", "value", "time", "count", "thread", "name", "size", "kind"):
        found[field] = getattr(events, field)
    found["line"] = events.number
    traits = _TRAITS[events.kind]
    high = np.flatnonzero(events.address >= np.uint64(IN_KERNEL[0][0]))
    address = events.address[high]
    for start, end in IN_KERNEL:
        there = (address >= np.uint64(start)) & (address < np.uint64(end))
        traits[high[there & _MEMORY[events.kind[high]]]] |= passes.KERNEL
    found["traits"] = traits
    return found
