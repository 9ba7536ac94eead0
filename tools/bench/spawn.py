"""A second Python process of a benchmark, with a pipe to it; it ends with this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from coalesced.hv import children
from coalesced.hv.errors import HostError
from coalesced.hv.signals import ENDING, deferred

if TYPE_CHECKING:
    Control: TypeAlias = Connection[Any, Any]

_running: set[int] = set()  # process ids


class Ended(HostError):
    """A process ended before it was closed."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"the benchmark's process {pid} ended")


class NotReady(HostError):
    """A process ended by itself before it was ready."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"the benchmark's process {pid} ended before it was ready")


class Spawned:
    """A process that runs `target(*arguments, control)`: the far end of a pipe to this one."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        """Returns once the target has sent something: it is ready.

        Raises NotReady when it ended by itself instead. When it is killed, or ends later, a signal
        handler raises Ended: on most channels this process would wait forever.
        """
        children.keep_folder_out()
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(target, arguments, theirs), daemon=True)
        try:
            self._start()
            theirs.close()
            self._control.recv()
        except BaseException as error:
            theirs.close()
            pid = self._process.pid
            ended = isinstance(error, EOFError | OSError) and pid is not None
            if ended:
                self._process.join()
            killed = (self._process.exitcode or 0) < 0
            self.close()
            if ended:
                raise (Ended if killed else NotReady)(pid) from error
            raise
        _watch(self._process.pid)

    def _start(self) -> None:
        """Start it with ENDING blocked, for `children.begin`.

        No handler raises between the start and what the other process is sent, without which it
        fails with a traceback.
        """
        with deferred(ENDING | {signal.SIGCHLD}):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ask(self, order: object) -> Any:
        """Send an order and take the answer. Raises Ended."""
        try:
            self._control.send(order)
            return self._control.recv()
        except (EOFError, OSError) as error:
            raise Ended(self._process.pid) from error

    def close(self, grace: float = 0.0) -> None:
        """End the process: it has `grace` seconds to end by itself when the pipe does."""
        _running.discard(self._process.pid or 0)
        self._control.close()
        if self._process.pid is not None:
            if grace:
                self._process.join(grace)
            self._process.kill()
            self._process.join()
        self._process.close()


def _watch(pid: int | None) -> None:
    assert pid is not None
    _running.add(pid)
    signal.signal(signal.SIGCHLD, _child_ended)
    _child_ended()


def _child_ended(_number: int = 0, _frame: FrameType | None = None) -> None:
    """Raise Ended when a child that was not closed has ended."""
    for pid in tuple(_running):
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
        except ChildProcessError:
            pass  # multiprocessing has seen it first
        _running.discard(pid)
        raise Ended(pid)


def _main(target: Callable[..., None], arguments: tuple[object, ...], control: Control) -> None:
    children.begin()
    with suppress(EOFError, BrokenPipeError):  # the process that gave the orders has ended
        target(*arguments, control)
