"""Names of shared memory and message queues that a test leaves behind.

Other programs on the machine, tests in another worker among them, have such names, too. A name
that one of them uses is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

FOLDERS = ("/dev/shm", "/dev/mqueue")


def names() -> set[str]:
    """The paths of all names."""
    found = set()
    for folder in FOLDERS:
        with suppress(OSError):
            found |= {f"{folder}/{name}" for name in os.listdir(folder)}
    return found


def left_since(before: set[str]) -> set[str]:
    """The names that are new and used by no process but this one and its descendants."""
    new = names() - before
    return new - _used_elsewhere(new) if new else new


Inode = tuple[int, int]
"""Device and number: a semaphore is mapped under another name than it gets."""


def _used_elsewhere(paths: set[str]) -> set[str]:
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    used = {inode for pid in psutil.pids() if pid not in ours for inode in _used_by(pid)}
    return {path for path in paths if _inode(path) in used}


def _used_by(pid: int) -> Iterator[Inode | None]:
    """The files that a process has mapped or open."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        for line in (process / "maps").read_text(errors="replace").splitlines():
            device, number = line.split()[3:5]
            yield os.makedev(*(int(part, 16) for part in device.split(":"))), int(number)
        for descriptor in (process / "fd").iterdir():
            yield _inode(descriptor)


def _inode(path: Path | str) -> Inode | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
