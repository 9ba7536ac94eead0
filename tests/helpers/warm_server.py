"""A process that holds the modules of `coalesced` and forks for each start of it.

Every start has its own process, streams, environment and folder; what it leaves out is half a
second of imports. The first start of each command ends as Python ends, and so does one that has a
session of its own. The others do not take their modules down, which copies each page that the fork
shares, and costs as much as all the rest of a short command. Its guest processes are those of
`warm_guest`. Run as a script, by `helpers.warm`, with the socket of the requests as standard input.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

LONGEST = 1 << 20  # bytes of a request


class Server:
    """The program's processes that run, and the socket on which starts are asked for."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, tuple[int, int]] = {}  # by pidfd: pid, and where its status goes
        self._commands: set[str] = set()  # that have been started
        self._ready = select.poll()
        self._ready.register(control, select.POLLIN)

    def serve(self) -> tuple[list[str], bool] | None:
        """Serve until the other side closes; in a fork, the arguments that the program gets, and
        whether it is the first start of its command."""
        while True:
            for descriptor, _ in self._ready.poll():
                if descriptor != self._control.fileno():
                    self._report(descriptor)
                    continue
                data, descriptors, _, _ = socket.recv_fds(self._control, LONGEST, 4)
                if not data:
                    self._end()
                    return None
                told = descriptors.pop()
                request = json.loads(data)
                command = " ".join(request["arguments"][:1])
                whole = request["session"] or command not in self._commands
                self._commands.add(command)
                pid = os.fork()
                if pid == 0:
                    os.close(told)
                    return self._become(request, descriptors), whole
                self._add(pid, told)
                for stream in descriptors:
                    os.close(stream)

    def _add(self, pid: int, told: int) -> None:
        ended = os.pidfd_open(pid)
        self._running[ended] = (pid, told)
        self._ready.register(ended, select.POLLIN)
        os.write(told, pid.to_bytes(4, "little"))

    def _report(self, ended: int) -> None:
        """Tell how a program ended."""
        pid, told = self._running.pop(ended)
        self._ready.unregister(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):
            os.write(told, status.to_bytes(4, "little", signed=True))
        os.close(told)
        os.close(ended)

    def _end(self) -> None:
        for pid, _ in self._running.values():
            os.kill(pid, signal.SIGKILL)

    def _become(self, request: dict[str, Any], streams: list[int]) -> list[str]:
        """Make this fork what the start of a program is."""
        self._control.close()
        for ended, (_, told) in self._running.items():
            os.close(ended)
            os.close(told)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        if request["session"]:
            os.setsid()
        arguments: list[str] = request["arguments"]
        return arguments


def load() -> None:
    """Import what the commands import, but nothing that they import for a few runs only."""
    import typer.rich_utils  # noqa: F401, PLC0415 - tables and help

    from coalesced.tools import early, program  # noqa: F401, PLC0415
    from coalesced.tools.commands import app  # noqa: PLC0415
    from helpers import warm_guest  # noqa: PLC0415

    app.application([])
    # Its clean-up at exit must stay behind the program's own.
    assert "multiprocessing.util" not in sys.modules
    warm_guest.install()
    gc.collect()
    gc.freeze()


def main(program: str) -> None:
    """`program`: the file that a start of the program runs. Returns at once in the parent."""
    if os.fork():
        return
    control = socket.socket(fileno=os.dup(0))
    sys.path[0] = os.path.dirname(os.path.dirname(__file__))
    load()
    served = Server(control).serve()
    if served is None:
        return
    arguments, whole = served
    from coalesced.tools.main import main as run  # noqa: PLC0415

    sys.argv[:] = [program, *arguments]
    sys.path[0] = os.path.dirname(program)
    sys.modules["__main__"].__file__ = program
    try:
        run()
    except SystemExit as end:
        if whole or not isinstance(end.code, int):
            raise
        _end(end.code)


def _end(status: int) -> NoReturn:
    """End as Python does, but for the objects that are left."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status if stream is sys.stderr else 120
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
