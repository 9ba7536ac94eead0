"""The Python processes that `multiprocessing` starts, those of guests and of benchmarks alike."""

from __future__ import annotations

import importlib
import signal
import sys

from coalesced.hv.signals import ENDING


def keep_folder_out() -> None:
    """Start them with -P, so that no module of the working directory gets in.

    One that is called as a module of Python's would end each of them, and a pool starts another
    one in its place without an end.
    """
    util = importlib.import_module("multiprocessing.util")
    flags: list[str] = util._args_from_interpreter_flags()
    if not sys.flags.safe_path and "-P" not in flags:
        util._args_from_interpreter_flags = lambda: [*flags, "-P"]  # type: ignore[attr-defined]


def begin() -> None:
    """In such a process: leave Ctrl-C to its parent, and end with that."""
    from coalesced.hv import core  # noqa: PLC0415 - stress replaces it before it is loaded

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    core.die_with_parent()
