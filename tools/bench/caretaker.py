"""A process that outlives a killed benchmark and removes the names of its peers.

It serves the libraries that need names: message queues, and iceoryx2's files. It receives each name
before the object is created, and acts when this process ends, for whatever reason.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import posix_ipc

from coalesced.hv.signals import ENDING

_ENTRY = "from coalesced.tools.bench import caretaker; caretaker.main()"
_SHARED_MEMORY = Path("/dev/shm")

_orders = -1  # the pipe to the caretaker; one per program


def remove_later(kind: str, name: str) -> None:
    """Have `name` removed when this process ends: a 'queue', a 'folder', or the files of /dev/shm
    that begin with it ('shared')."""
    global _orders  # noqa: PLW0603
    if _orders < 0:
        _orders = _start()
    with suppress(BrokenPipeError):  # it was killed: `close` removes the rest
        os.write(_orders, f"{kind} {name}\n".encode())


def _start() -> int:
    read, write = os.pipe()
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _ENTRY],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
            # A signal to this process or its group must not reach the caretaker.
            setsid=True,
            setsigmask=ENDING,
        )
    finally:
        os.close(read)
    return write


def main() -> None:
    """Wait for the end of the process that sends the names, then remove them."""
    for line in sys.stdin.readlines():
        kind, _, name = line.rstrip("\n").partition(" ")
        remove(kind, name)


def remove(kind: str, name: str) -> None:
    """Remove a name of `remove_later`; ignore one that was already removed."""
    if kind == "queue":
        with suppress(OSError, posix_ipc.Error):
            posix_ipc.unlink_message_queue(name)
    elif kind == "folder":
        shutil.rmtree(name, ignore_errors=True)
    else:
        for left in _SHARED_MEMORY.glob(f"{name}*"):
            left.unlink(missing_ok=True)
