"""A process that outlives a killed benchmark, and removes what that could not: names of its peers.

Only what other libraries cannot do without a name is left to it: message queues, and iceoryx2's
files. Each is told before it is made. The process ends with this one, whatever ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import posix_ipc

_ENTRY = "from coalesced.tools.bench import caretaker; caretaker.main()"
_SHARED_MEMORY = Path("/dev/shm")

_orders = -1  # the pipe to the caretaker; one per program


def told(kind: str, name: str) -> None:
    """Let `name` be removed when this process ends: a 'queue', a 'folder', or the files of /dev/shm
    that begin with it ('shared')."""
    global _orders  # noqa: PLW0603
    if _orders < 0:
        _orders = _start()
    with suppress(BrokenPipeError):  # it was killed: what is left to do is done by `close`
        os.write(_orders, f"{kind} {name}\n".encode())


def _start() -> int:
    read, write = os.pipe()
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _ENTRY],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
            # What ends this process, or all of its group, must not end the caretaker first.
            setsid=True,
            setsigmask=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    finally:
        os.close(read)
    return write


def main() -> None:
    """Wait for the end of whoever gives the orders, then carry them out."""
    for line in sys.stdin.readlines():
        kind, _, name = line.rstrip("\n").partition(" ")
        remove(kind, name)


def remove(kind: str, name: str) -> None:
    """Remove what `told` names; what is gone already is no error."""
    if kind == "queue":
        with suppress(OSError, posix_ipc.Error):
            posix_ipc.unlink_message_queue(name)
    elif kind == "folder":
        shutil.rmtree(name, ignore_errors=True)
    else:
        for left in _SHARED_MEMORY.glob(f"{name}*"):
            left.unlink(missing_ok=True)
