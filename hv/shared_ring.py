"""A ring between two processes of a user: its memory, its doorbells, and how to pass them on."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from multiprocessing import reduction
from typing import TYPE_CHECKING, Final, Protocol, Self

from coalesced.hv import abi, core, descriptors, shm
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.errors import GeometryError, HostError, RingBusy, RingClosed, SegmentError
from coalesced.hv.ring_ends import Closing, RingConsumer, RingProducer, limit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Descriptors = tuple[int, int, int]

_HEADER: Final = struct.Struct("<8sII")  # struct shared_ring of hv/core/shared_ring.h
_MAGIC: Final = b"coalring"
_VERSION: Final = 1
_MOST_ENTRIES: Final = 1 << 24
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_LONGEST_NAME: Final = 64  # bytes
_RETRY: Final = 0.01  # seconds between two looks for a name
_PEER = struct.Struct("iII")  # struct ucred


class _Detached(Protocol):
    """A descriptor under way to another process."""

    def detach(self) -> int: ...


class Ring(Closing):
    """A ring of entries between a producer and a consumer, each in a process of its own.

    Create it in one process and pass it to the other: by fork, as an argument of a
    `multiprocessing` process, as inherited descriptors (`fds`, `from_fds`), over a Unix socket
    (`send`, `receive`), or by a name (`open`). Then one calls `producer()`, the other `consumer()`.

    The memory has no name and cannot be truncated: nothing of it remains, whichever process is
    killed at whatever moment. Both processes must see each other in one /proc.
    """

    def __init__(self, entries: int = 169, name: str | None = None) -> None:
        """A ring for `entries` entries (1 to 2**24) or somewhat more: whole pages.

        With `name`, other processes of this user open it by that name while this object is open; a
        thread answers them. Raises HostError without memory, RingBusy for a name that is in use.
        """
        if not 1 <= entries <= _MOST_ENTRIES:
            raise ValueError(f"expected a ring of 1 to {_MOST_ENTRIES} entries, got {entries}")
        size = abi.KVM_COALESCED_MMIO_RING_HEADER + (entries + 1) * abi.KVM_COALESCED_MMIO_SIZE
        pages = 1 + -(-size // PAGE_SIZE)
        memory = _memory(pages * PAGE_SIZE)
        try:
            ends = socket.socketpair()
        except OSError as error:
            os.close(memory)
            raise HostError(f"no sockets for a ring: {error.strerror}") from error
        self._take((memory, ends[0].detach(), ends[1].detach()))
        try:
            self._door = _Door(name, self.fds) if name is not None else None
        except BaseException:
            self.close()
            raise

    _door: _Door | None = None

    def _take(self, fds: Descriptors) -> None:
        self._fds: Descriptors | None = fds
        self.capacity = abi.ring_slots(os.fstat(fds[0]).st_size // PAGE_SIZE - 1) - 1
        """Number of entries that it can hold."""
        for fd in fds:
            os.set_inheritable(fd, False)
        for fd in fds[1:]:
            os.set_blocking(fd, False)

    @classmethod
    def from_fds(cls, memory: int, producer_bell: int, consumer_bell: int) -> Self:
        """The ring of descriptors that another process has passed, in the order of its `fds`.

        They belong to the ring from now on. Raises GeometryError unless they are those of a ring.
        """
        fds = memory, producer_bell, consumer_bell
        try:
            _check(*fds)
        except BaseException:
            _close_all(fds)
            raise
        ring = cls.__new__(cls)
        ring._take(fds)
        return ring

    @classmethod
    def open(cls, name: str, timeout: float | None = 10.0) -> Self:
        """The ring that another process has created with `name`, waiting for it `timeout` seconds.

        Raises HostError when there is none by then.
        """
        limit = limit_of(timeout)
        while True:
            try:
                with _knock(name) as peer:
                    return cls.receive(peer)
            except (ConnectionError, EOFError):
                if limit.left() == 0:
                    raise HostError(f"no process has a ring named {name!r}") from None
                time.sleep(_RETRY)

    @classmethod
    def receive(cls, peer: socket.socket) -> Self:
        """The ring that the other process gives to `send`. Raises EOFError, GeometryError."""
        _, received, _, _ = socket.recv_fds(peer, 1, 3)
        match received:
            case []:
                raise EOFError("the socket was closed, and no ring came over it")
            case [memory, producer_bell, consumer_bell]:
                return cls.from_fds(memory, producer_bell, consumer_bell)
            case _:
                _close_all(received)
                raise GeometryError(f"expected the 3 descriptors of a ring, got {len(received)}")

    def send(self, peer: socket.socket) -> None:
        """Pass the ring to the process at the other end of a Unix socket, which calls `receive`."""
        socket.send_fds(peer, [b"r"], list(self.fds))

    @property
    def fds(self) -> Descriptors:
        """Memory, producer's and consumer's doorbell: for `subprocess`'s `pass_fds`, `from_fds`."""
        if self._fds is None:
            raise RingClosed("the ring is closed")
        return self._fds

    def producer(self) -> RingProducer:
        """Become the producer, in place of one that has closed its end or whose process has ended.

        Raises RingBusy while there is another.
        """
        return RingProducer(self._mapped(), PAGE_SIZE, os.dup(self.fds[1]))

    def consumer(self) -> RingConsumer:
        """Become the consumer, as `producer`; what is left in the ring comes first."""
        return RingConsumer(self._mapped(), PAGE_SIZE, os.dup(self.fds[2]))

    def _mapped(self) -> core.Mapping:
        return _map(self.fds[0])

    def close(self) -> None:
        """Give the descriptors back; the ends that were taken stay open."""
        if self._fds is None:
            return
        if self._door is not None:
            self._door.close()
        _close_all(self._fds)
        self._fds = None

    def __reduce__(self) -> tuple[Callable[[Sequence[_Detached]], Ring], tuple[list[_Detached]]]:
        """For `multiprocessing`: its descriptors go along."""
        return _rebuild, ([reduction.DupFd(fd) for fd in self.fds],)


def _rebuild(fds: Sequence[_Detached]) -> Ring:
    memory, producer_bell, consumer_bell = (fd.detach() for fd in fds)
    return Ring.from_fds(memory, producer_bell, consumer_bell)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def _memory(size: int) -> int:
    """A memfd for a ring, all of it reserved, with its header. Raises HostError."""
    fd = -1
    try:
        fd = os.memfd_create("coalesced-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, _HEADER.pack(_MAGIC, _VERSION, size - PAGE_SIZE), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise HostError(f"no memory for a ring of {size} bytes: {error.strerror}") from error
    return fd


def _map(memory: int) -> core.Mapping:
    return shm.mapped(shm.Segment("ring", memory, os.fstat(memory).st_size))


def _check(memory: int, *bells: int) -> None:
    """Raise GeometryError unless the descriptors are those of a ring."""
    try:
        size = os.fstat(memory).st_size
        checked = shm.received("ring", os.dup(memory), size)
        try:
            magic, version, told = _HEADER.unpack(_map(checked.fd).read(0, _HEADER.size))
        finally:
            checked.close()
        kinds = [descriptors.kind_of(fd) for fd in bells]
    except (SegmentError, OSError) as error:
        raise GeometryError(f"these descriptors are no ring: {error}") from error
    if magic != _MAGIC:
        raise GeometryError(f"expected memory that begins with {_MAGIC!r}, got {magic!r}")
    if version != _VERSION:
        raise GeometryError(f"expected a ring of version {_VERSION}, got version {version}")
    if told != size - PAGE_SIZE or size < 2 * PAGE_SIZE:
        raise GeometryError(f"a ring of {told} bytes behind a page does not fill {size} bytes")
    if kinds != ["a socket", "a socket"]:
        raise GeometryError(f"expected two sockets as doorbells, got {' and '.join(kinds)}")


def _address(name: str) -> bytes:
    """A name of Linux's abstract sockets: it exists as long as its socket, and in no folder."""
    text = os.fsencode(name)
    if not 1 <= len(text) <= _LONGEST_NAME:
        raise ValueError(f"expected a name of 1 to {_LONGEST_NAME} bytes, got {name!r}")
    return b"\0coalesced-ring-%d-" % os.geteuid() + text


def _is_own(peer: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(raw)[1] == os.geteuid())


class _Door:
    """Hands a ring's descriptors to processes of the same user that ask by its name."""

    def __init__(self, name: str, fds: Descriptors) -> None:
        address = _address(name)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise RingBusy(f"a ring named {name!r} is open already: {error.strerror}") from error
        self._socket.listen()
        self._fds, self._process = fds, os.getpid()
        self._thread = threading.Thread(target=self._answer, name=f"ring {name}", daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:  # close
                return
            with peer, suppress(OSError):
                if _is_own(peer):
                    socket.send_fds(peer, [b"r"], list(self._fds))

    def close(self) -> None:
        """Give the name up; in a fork of the process that has it, do not."""
        if os.getpid() == self._process:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        self._socket.close()


def _knock(name: str) -> socket.socket:
    """A connection to the process that has a ring of that name. Raises ConnectionError."""
    address = _address(name)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(address)
        if not _is_own(peer):
            raise ConnectionRefusedError(f"the ring named {name!r} is another user's")
    except BaseException:
        peer.close()
        raise
    return peer
