"""A second Python process of a benchmark, with a pipe to it; it ends with this one."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

from hv import core

if TYPE_CHECKING:
    Control: TypeAlias = Connection[Any, Any]


class Spawned:
    """A process that runs `target(*arguments, control)`; `control` is this end of the pipe."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        """Returns once the target has sent something: it is ready.

        Raises EOFError when it ended instead.
        """
        context = multiprocessing.get_context("spawn")
        self.control, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(target, arguments, theirs), daemon=True)
        # Ctrl-C is this side's affair, from the other one's first instruction on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        try:
            self.control.recv()
        except BaseException:
            self.close()
            raise

    def close(self, grace: float = 0.0) -> None:
        """End the process: it has `grace` seconds to end by itself when the pipe does."""
        self.control.close()
        if grace:
            self._process.join(grace)
        self._process.kill()
        self._process.join()
        self._process.close()


def _main(target: Callable[..., None], arguments: tuple[object, ...], control: Control) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    core.die_with_parent()
    with suppress(EOFError, BrokenPipeError):  # whoever gave the orders has gone
        target(*arguments, control)
