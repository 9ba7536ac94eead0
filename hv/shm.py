"""POSIX shared memory segments, passed on as descriptors.

A segment loses its name right after it is opened, before any of it is reserved: the name lives for
microseconds whatever the size, and a process that is killed in between leaves an empty file. Nobody
opens a segment by name, so one that loses its name early loses nothing.

POSIX shared memory rather than memfd with seals: seals would keep a peer from truncating a segment,
which the core survives anyway (`hv.core.Mapping`), and the size of /dev/shm, its mount options and
its usage would no longer be what an administrator sees and limits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
from contextlib import suppress
from typing import NamedTuple

import posix_ipc

from coalesced.hv import core, descriptors, signals
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.errors import HostError, SegmentError

PREFIX = "coalesced-"
DIRECTORY = "/dev/shm"
_SEAL_FUTURE_WRITE = 0x10  # <linux/fcntl.h>
_NAME = re.compile(rf"{PREFIX}([0-9]{{1,10}})-([0-9]{{1,20}})-[0-9A-Za-z]+")


class Segment(NamedTuple):
    """A shared memory segment without a name. `close` gives the descriptor back, mappings stay."""

    name: str  # what it is for, in messages
    fd: int
    size: int

    def close(self) -> None:
        os.close(self.fd)

    def part(self) -> tuple[str, int, int]:
        """The segment as `hv.core.Mapping` takes it."""
        return (self.name, self.fd, self.size)


def create(name: str, size: int, reserve: bool = True) -> Segment:
    """A new zeroed segment of `size` bytes, a multiple of 4096, mode 0600.

    `reserve`: all of it is reserved; else each page when it is first used, and one for which there
    is no room then is a SegmentError of whoever uses it. Raises HostError when POSIX shared memory
    has no room or refuses.
    """
    if size <= 0 or size % PAGE_SIZE:
        raise ValueError(f"segment {name!r}: expected a positive multiple of 4096, got {size}")
    path = f"/{PREFIX}{os.getpid()}-{_start_time(os.getpid()) or 0}-{os.urandom(8).hex()}"
    try:
        fd = _open_unnamed(path)
    except (OSError, posix_ipc.Error) as error:
        raise HostError(f"no shared memory segment for {name} of {size} bytes: {error}") from error
    try:
        if reserve:
            # Now, so that a full /dev/shm is an error here and no SIGBUS later.
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.ENOSPC:
            raise HostError(
                f"no room for {name}: {size} bytes of POSIX shared memory (/dev/shm) wanted, "
                f"{_free()} free"
            ) from error
        raise HostError(f"no shared memory for {name} of {size} bytes: {error}") from error
    except BaseException:
        os.close(fd)
        raise
    return Segment(name, fd, size)


def _open_unnamed(path: str) -> int:
    """The descriptor of a new, empty segment whose name is gone again.

    A signal arrives after that, whether it ends the process or its handler raises. Raises OSError,
    posix_ipc.Error.
    """
    fd = -1
    try:
        with signals.held():
            try:
                shared = posix_ipc.SharedMemory(path, flags=posix_ipc.O_CREX, mode=0o600)
                fd = int(shared.fd)
            finally:  # another thread may have taken the signal, and its handler raises here
                with suppress(posix_ipc.ExistentialError):  # somebody else removed it: done
                    posix_ipc.unlink_shared_memory(path)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    return fd


def received(name: str, fd: int, expected: int) -> Segment:
    """A segment whose descriptor came from another process, checked.

    Raises SegmentError unless it is shared memory of `expected` bytes, whole pages, open for
    reading and writing; the descriptor is closed then.
    """
    size = os.fstat(fd).st_size
    wrong = None
    if not core.is_shared_memory(fd):
        # A page of another file system may take its server forever to bring.
        wrong = f"expected shared memory, got {descriptors.kind_of(fd)}"
    elif fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        wrong = "expected a descriptor open for reading and writing"
    elif size <= 0 or size % PAGE_SIZE:
        wrong = f"expected whole pages of {PAGE_SIZE} bytes, got {size} bytes"
    elif size != expected:
        wrong = f"expected {expected} bytes, got {size} bytes"
    elif fcntl.fcntl(fd, fcntl.F_GET_SEALS) & (fcntl.F_SEAL_WRITE | _SEAL_FUTURE_WRITE):
        wrong = "expected memory without a seal against writing"
    if wrong:
        os.close(fd)
        raise SegmentError(f"segment {name}: {wrong}")
    return Segment(name, fd, size)


def mapped(*segments: Segment) -> core.Mapping:
    """Segments mapped side by side, 1 to 4 of them. Raises HostError without room."""
    try:
        return core.Mapping([segment.part() for segment in segments])
    except OSError as error:
        names = ", ".join(segment.name for segment in segments)
        raise HostError(f"cannot map {names}: {error.strerror}") from error


def orphans(directory: str = DIRECTORY) -> list[str]:
    """The names of segments whose creator was killed before it removed the name.

    Everything else in /dev/shm is ignored, whatever its owner or name.
    """
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if _is_orphan(directory, entry.name)]
    except OSError:
        return []


def _is_orphan(directory: str, name: str) -> bool:
    matched = _NAME.fullmatch(name)
    if matched is None or _start_time(int(matched[1])) == int(matched[2]):
        return False
    # A creator in another PID namespace looks gone from here, but it has the segment open.
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _is_own_file(fd) and not _is_written(fd)
    finally:
        os.close(fd)


def _is_own_file(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _is_written(fd: int) -> bool:
    """Whether any process has the file open or mapped for writing."""
    try:
        # If somebody opens it before it is closed here, the signal is one that is ignored.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without leases: the process id alone decides
    return False


def remove_orphans(directory: str = DIRECTORY) -> list[str]:
    """Remove the names that `orphans` finds; returns them."""
    removed = []
    for name in orphans(directory):
        try:
            posix_ipc.unlink_shared_memory("/" + name)
        except (OSError, posix_ipc.Error):
            continue  # gone already
        removed.append(name)
    return removed


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to a process's start (field 22 of its stat), None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()  # the process's name may be any bytes
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def _free() -> str:
    stat = os.statvfs(DIRECTORY)
    return f"{stat.f_bavail * stat.f_frsize} bytes"


class Memory:
    """A slot of guest RAM, mapped here, too."""

    def __init__(self, start: int, segment: Segment) -> None:
        """Raises HostError without room."""
        self.start = start
        self.size = segment.size
        self.mapping = mapped(segment)
        self.segment = segment
