"""The two ends of a shared ring: each waits for the other, and notices its end."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from coalesced.hv import abi, core, ring
from coalesced.hv.errors import RingClosed, RingFull

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ENTRY_SIZE: Final = abi.KVM_COALESCED_MMIO_SIZE


class Closing:
    """Closed by `close`, at the end of a `with` block, or when nobody has it any more."""

    def close(self) -> None:
        """Give up what it has; once more does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # __init__ has failed
            self.close()


class RingEnd(Closing):
    """An end of a ring: closed by `close`, by leaving its context, or by the process's end."""

    def __init__(self, mapping: core.Mapping, bell: int, produces: bool) -> None:
        """Become the owner; `bell`: descriptor of this side's socket, closed by `close`.

        Raises RingBusy while another process, or another object, has this end.
        """
        self._fd = bell
        self._poll: select.epoll | None = None
        try:
            self._bell = core.Bell(mapping, bell, produces)
        except BaseException:
            os.close(bell)
            raise

    def fileno(self) -> int:
        """A descriptor that is readable when a sleep that `arm` has announced is over.

        -1 once the end is closed.
        """
        if self._poll is None and self._fd >= 0:
            self._poll = select.epoll()
            self._poll.register(self._fd, select.EPOLLIN)
        return -1 if self._poll is None else self._poll.fileno()

    def arm(self) -> bool:
        """Announce a sleep until `fileno` is readable, for your own event loop.

        False: there is news already, do not sleep. After the sleep call `disarm`, then `wait(0)`.
        """
        self.fileno()
        armed = self._bell.arm()
        if self._poll is not None and self._bell.life_fd >= 0:
            with suppress(FileExistsError):  # epoll itself forgets one that is closed
                self._poll.register(self._bell.life_fd, select.EPOLLIN)
        return armed

    def disarm(self) -> None:
        """The sleep that `arm` has announced is over."""
        self._bell.disarm()

    async def ready(self, timeout: float | None = None) -> bool:
        """As `wait`, for asyncio: other tasks run meanwhile."""
        limit = limit_of(timeout)
        while not self._bell.wait(0):
            left = limit.left()
            if left == 0:
                return False
            try:
                if self.arm():
                    await _readable(self.fileno(), left)
            finally:
                self._bell.disarm()
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the consumer has an entry, or the producer room for one; False at timeout.

        `timeout` in seconds; None: no limit. Raises RingClosed when the other end is closed and
        PeerDied when its process has ended; the consumer gets all entries before.
        """
        return self._bell.wait(timeout)

    def close(self) -> None:
        """Give the end up and wake the other one. In a fork of its process: only forget it."""
        if self._fd >= 0:
            self._bell.close()
            if self._poll is not None:
                self._poll.close()
            self._poll = None
            os.close(self._fd)
            self._fd = -1


class RingProducer(RingEnd):
    """The producer's end, one thread at a time.

    Every entry of a call that has returned reaches the consumer, once and in order, whatever
    happens to this process afterwards. Of a call that was cut short, by an exception or by the
    process's end, entries from the first on may reach it. A full ring makes each call wait.

    Raises RingFull at a timeout, RingClosed when the consumer has closed its end, and PeerDied when
    the ring is full and the consumer's process has ended: another one may take its place and get
    what is in the ring.
    """

    def __init__(self, mapping: core.Mapping, offset: int, bell: int) -> None:
        """The ring lies at `offset` of the mapping; see RingEnd."""
        super().__init__(mapping, bell, produces=True)
        self._ring = core.Producer(mapping, offset, len(mapping) - offset)
        self._bell.attach_end(self._ring)

    def append(
        self,
        address: int,
        size: int,
        value: int,
        *,
        pio: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Append an entry: `size` bytes (1 to 8) of `value` for an address or port."""
        limit = limit_of(timeout)
        while not self._bell.append(address, size, value, pio):
            if not self._bell.wait(limit.left()):
                raise RingFull(0)

    def append_many(
        self,
        addresses: ArrayLike,
        sizes: ArrayLike,
        values: ArrayLike,
        *,
        pio: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Append an entry for each address; `sizes` and `values` are arrays, or one for all.

        Raises TypeError for a number that is not whole, OverflowError for one below 0 or too large,
        and what `append_entries` raises.
        """
        address, size, value = np.broadcast_arrays(
            np.atleast_1d(_whole_numbers("addresses", addresses, 64)),
            _whole_numbers("sizes", sizes, 32),
            _whole_numbers("values", values, 64),
        )
        entries = np.empty(address.size, abi.KVM_COALESCED_MMIO)
        columns = {"phys_addr": address, "len": size, "pio": pio, "data": value}
        for field, column in columns.items():
            entries[field] = column
        self.append_entries(entries, timeout)

    def append_entries(self, entries: NDArray[np.void], timeout: float | None = None) -> None:
        """Append an array of entries, with the fields of `KVM_COALESCED_MMIO`.

        Raises ValueError for one that is not valid before any is appended. RingFull says how many
        went in.
        """
        entries, limit, done = _gapless(entries), limit_of(timeout), 0
        while (done := self._bell.extend(entries, done)) < len(entries):
            if not self._bell.wait(limit.left()):
                raise RingFull(done)

    async def append_async(self, entries: NDArray[np.void], timeout: float | None = None) -> None:
        """As `append_entries`, for asyncio: other tasks run while the ring is full."""
        entries, limit, done = _gapless(entries), limit_of(timeout), 0
        while (done := self._bell.extend(entries, done)) < len(entries):
            if not await self.ready(limit.left()):
                raise RingFull(done)


class RingConsumer(RingEnd):
    """The consumer's end, one thread at a time.

    Entries arrive once and in the order in which they were appended. `take` gives them out for
    good. `peek` with `commit`, and the loop `for batch in consumer`, leave them in the ring until
    the caller is done with them: when this process dies before, the next consumer gets them.

    Raises RingClosed when the producer has closed its end and PeerDied when its process has ended,
    both when no entry is left; ProtocolError when an entry or an index breaks the rules.
    """

    def __init__(self, mapping: core.Mapping, offset: int, bell: int) -> None:
        """The ring lies at `offset` of the mapping; see RingEnd."""
        super().__init__(mapping, bell, produces=False)
        self._ring = ring.Consumer(mapping, offset, len(mapping) - offset)
        self._bell.attach_end(self._ring.core)

    def take(self, timeout: float | None = None, most: int | None = None) -> NDArray[np.void]:
        """A copy of the entries that are there, `most` at most, once there is one.

        Empty at the timeout, in seconds; 0: do not wait, None: no limit.
        """
        taken = self._bell.take(timeout, most)
        return np.ndarray(len(taken) // _ENTRY_SIZE, abi.KVM_COALESCED_MMIO, taken)

    def peek(self) -> NDArray[np.void]:
        """The entries that are there, which stay; the array is valid until the next call."""
        self._bell.check()
        return self._ring.peek()

    def commit(self, count: int) -> None:
        """Take `count` peeked entries out of the ring."""
        self._bell.commit(count)

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        """Batches until the producer closes its end; each is committed when the next is wanted.

        A batch is valid until then.
        """
        with suppress(RingClosed):
            while self._bell.wait(None):
                batch = self._ring.peek()
                yield batch
                self.commit(len(batch))

    async def __aiter__(self) -> AsyncIterator[NDArray[np.void]]:
        """As the plain loop, for asyncio: other tasks run until there is a batch."""
        with suppress(RingClosed):
            while await self.ready():
                batch = self._ring.peek()
                yield batch
                self.commit(len(batch))


async def _readable(fd: int, timeout: float | None) -> None:
    """Until a descriptor is readable, or the timeout."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    loop.add_reader(fd, woken.set)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), timeout)
    finally:
        loop.remove_reader(fd)


class _Limit:
    """The rest of a timeout."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError("expected a timeout of 0 seconds or more")
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        return self._end if self._end is None else max(0.0, self._end - time.monotonic())


_UNLIMITED = _Limit(None)


def limit_of(timeout: float | None) -> _Limit:
    return _UNLIMITED if timeout is None else _Limit(timeout)


def _whole_numbers(what: str, given: ArrayLike, bits: int) -> NDArray[Any]:
    """An array of numbers of 0 to 2**bits - 1. Raises TypeError, OverflowError."""
    found = np.asarray(given)
    if type(given) is int and not given >> bits:
        return found  # one for all: not worth a look by numpy
    if found.dtype.kind not in "biu":
        # A list with 2**63 in it comes here, too: numpy makes inexact floats of it.
        found = np.asarray(given, object)
        for each in found.flat:
            if not hasattr(each, "__index__"):
                raise TypeError(f"{what}: expected whole numbers, got {type(each).__name__}")
    # No signed number is too large for as many bits, and no unsigned one negative.
    wide = found.dtype.kind == "O" or found.itemsize * 8 > bits
    bounds = [np.minimum] * (found.dtype.kind in "iO") + [np.maximum] * wide
    for bound in bounds if found.size else ():
        number = int(bound.reduce(found, axis=None))
        if number >> bits:  # -1 and less of a negative one
            raise OverflowError(f"{what}: expected numbers of 0 to 2**{bits} - 1, got {number}")
    return found


def _gapless(entries: NDArray[np.void]) -> NDArray[np.void]:
    # Constant for arrays of these entries: not looked up in every call.
    if entries.dtype is abi.KVM_COALESCED_MMIO and entries.flags.c_contiguous:
        return entries
    return np.ascontiguousarray(entries, abi.KVM_COALESCED_MMIO)
