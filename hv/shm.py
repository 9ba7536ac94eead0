"""POSIX shared memory segments: made, passed on as descriptors, without a name at once."""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import posix_ipc

from hv import core
from hv.abi import PAGE_SIZE
from hv.errors import HostError

PREFIX = "coalesced-"
DIRECTORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Segment:
    """A shared memory segment without a name. `close` gives the descriptor back, mappings stay."""

    name: str  # what it is for, in messages
    fd: int
    size: int

    def close(self) -> None:
        os.close(self.fd)

    def part(self) -> tuple[str, int, int]:
        """What `hv.core.Mapping` takes."""
        return (self.name, self.fd, self.size)


def create(name: str, size: int) -> Segment:
    """A new zeroed segment of `size` bytes, a multiple of 4096, mode 0600, all of it reserved.

    Raises HostError when POSIX shared memory has no room for it or refuses.
    """
    if size <= 0 or size % PAGE_SIZE:
        raise ValueError(f"segment {name!r}: expected a positive multiple of 4096, got {size}")
    path = f"/{PREFIX}{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(8)}"
    try:
        shared = posix_ipc.SharedMemory(path, flags=posix_ipc.O_CREX, mode=0o600)
    except (OSError, posix_ipc.Error) as error:
        raise HostError(f"no shared memory segment for {name} of {size} bytes: {error}") from error
    try:
        # Reserved now, so that a full /dev/shm is an error here and no SIGBUS later.
        os.posix_fallocate(shared.fd, 0, size)
    except OSError as error:
        os.close(shared.fd)
        if error.errno == errno.ENOSPC:
            raise HostError(
                f"no room for {name}: {size} bytes of POSIX shared memory (/dev/shm) wanted, "
                f"{_free()} free"
            ) from error
        raise HostError(f"no shared memory for {name} of {size} bytes: {error}") from error
    finally:
        posix_ipc.unlink_shared_memory(path)
    return Segment(name, shared.fd, size)


def received(name: str, fd: int, expected: int) -> Segment:
    """A segment whose descriptor came from another process, checked against its size.

    Raises HostError when it has another size than `expected` bytes, whole pages.
    """
    size = os.fstat(fd).st_size
    if size != expected or size <= 0 or size % PAGE_SIZE:
        os.close(fd)
        raise HostError(
            f"segment {name}: expected {expected} bytes in whole pages, got {size} bytes"
        )
    return Segment(name, fd, size)


def mapped(*segments: Segment) -> core.Mapping:
    """Segments mapped side by side, 1 to 4 of them. Raises HostError without room."""
    try:
        return core.Mapping([segment.part() for segment in segments])
    except OSError as error:
        names = ", ".join(segment.name for segment in segments)
        raise HostError(f"cannot map {names}: {error.strerror}") from error


def remove_orphans() -> list[str]:
    """Remove the names of segments whose creator is gone; returns them.

    A name lives for microseconds, so only a creator that was killed just then leaves one.
    """
    removed = []
    try:
        found = [entry.name for entry in os.scandir(DIRECTORY) if entry.name.startswith(PREFIX)]
    except OSError:
        return []
    for name in found:
        pid, _, rest = name.removeprefix(PREFIX).partition("-")
        start = rest.partition("-")[0]
        if not pid.isdecimal() or not start.isdecimal() or _start_time(int(pid)) == int(start):
            continue
        try:
            posix_ipc.unlink_shared_memory("/" + name)
        except (OSError, posix_ipc.Error):
            continue  # gone already, or another user's
        removed.append(name)
    return removed


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to a process's start (field 22 of its stat), None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # the process's name may be any bytes
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def _free() -> str:
    stat = os.statvfs(DIRECTORY)
    return f"{stat.f_bavail * stat.f_frsize} bytes"
