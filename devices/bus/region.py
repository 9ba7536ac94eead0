"""A region: registers or memory that a chip exposes on a bus."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass

from coalesced.devices.bus.write_run import U32, U64, WriteRun

__all__ = ["U32", "U64", "Region", "WriteRun"]

ReadHandler = Callable[[int, int], int]
WriteHandler = Callable[[int, int, int], None]
WriteRunHandler = Callable[[U64, U32, U64], int]
RunHandler = Callable[[WriteRun], int]
RegisterNames = Callable[[int], str | None]
_RUNS_NOTHING = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A block of addresses that one device answers, wherever it is mapped.

    Handlers see offsets from the region's start, never absolute addresses. Every access that
    reaches a handler lies wholly inside the region and is 1 to 8 bytes long; a crossing of 4 KiB
    leaves odd sizes, so a handler must take any size in that range. Values are unsigned and
    little endian; bits above `size` bytes are zero on the way in and ignored on the way out.

    `write_run(offsets, sizes, values)` takes writes in program order as three arrays of one
    length (at least 1), any strides, to be read only and only until it returns. It returns how many
    it took, 0 to all. It stops early, after the entry in question, when that entry changed what a
    later one may hit (a mapping, a mode). It must leave the device as the same calls of `write`
    would. An exception out of `write_run` belongs to the first entry of the call, and no entry of
    that call has had any effect: a device that meets a bad entry further on returns the count
    before it and raises on the next call. An answer that is no such count is reported like an
    exception. `take_run(run)` is the same, given one `WriteRun`; a region needs only one of both.

    `coalesced` lists (offset, size) ranges whose writes have no side effect that the guest could
    notice before its next exit, so that they may be queued. `posted` lists such ranges whose writes
    must act soon all the same, although their writer need not wait: a doorbell. They are queued in
    order with the others, and the devices' side is woken. Where both lists overlap it is posted.
    `flush` says that queued writes must reach the devices before this region is accessed by anyone
    but the queue itself.

    `ring` "own" asks for a ring beside the VM's for those writes, one for all such regions of a
    device: accesses to other devices do not wait for them. "vm" leaves them in the VM's ring.

    `register(offset)` is the datasheet's name of the register there, None where there is none.

    Names follow QEMU's memory regions, so that traces of both can be compared.
    """

    name: str
    size: int
    read: ReadHandler
    write: WriteHandler
    write_run: WriteRunHandler | None = None
    coalesced: tuple[tuple[int, int], ...] = ()
    flush: bool = False
    take_run: RunHandler | None = None
    register: RegisterNames | None = None
    posted: tuple[tuple[int, int], ...] = ()
    ring: str = "vm"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"region {self.name!r}: expected a text as its name")
        if not isinstance(self.size, int) or self.size <= 0:
            raise ValueError(f"region {self.name!r}: expected a size above 0, got {self.size!r}")
        for what in ("read", "write", "write_run", "take_run"):
            handler = getattr(self, what)
            if not callable(handler) and (what in ("read", "write") or handler is not None):
                raise TypeError(
                    f"region {self.name!r}: {what}: expected a function, got {handler!r}"
                )
            if getattr(getattr(handler, "__code__", None), "co_flags", 0) & _RUNS_NOTHING:
                raise TypeError(
                    f"region {self.name!r}: {what}: expected a plain function, got a generator or "
                    "a coroutine"
                )
        if self.ring not in ("vm", "own"):
            raise ValueError(
                f"region {self.name!r}: ring: expected 'vm' or 'own', got {self.ring!r}"
            )
        self._check_ranges("coalesced", self.coalesced)
        self._check_ranges("posted", self.posted)
        if self.write_run is not None and self.take_run is None:
            object.__setattr__(self, "take_run", _of_one_value(self.write_run))

    def _check_ranges(self, what: str, given: tuple[tuple[int, int], ...]) -> None:
        try:
            ranges = [(operator.index(at), operator.index(size)) for at, size in given]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"region {self.name!r}: {what}: expected pairs of offset and size, got {given!r}"
            ) from error
        for offset, size in ranges:
            if offset < 0 or size <= 0 or offset + size > self.size:
                raise ValueError(
                    f"region {self.name!r}: {what} range {offset:#x}+{size:#x} "
                    f"does not lie in its {self.size:#x} bytes"
                )


def _of_one_value(write_run: WriteRunHandler) -> RunHandler:
    """A handler of three arrays as one of a `WriteRun`."""
    return lambda run: write_run(run.addresses, run.sizes, run.values)
