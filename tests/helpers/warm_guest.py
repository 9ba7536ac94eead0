"""Guest processes that are forks of the process that starts them, instead of starts of Python.

What `GuestProcess` promises of a new process holds for these, too. What they have beforehand are
the modules of Python, of its libraries and of this program; those of a user's files and of tests
they load by themselves, as a new process would.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from coalesced.hv import kernel
from coalesced.hv.process import ENTRY, GuestProcess

_start_python: Callable[[socket.socket, str], int] = GuestProcess._spawn
_path: list[str] = []  # of a new process
_usable: list[Callable[[], bool]] = []
_judged = [""]  # the names of modules, in the order in which they were loaded
_foreign: list[str] = []  # of those that a new process would not have
_kept: list[object] = []  # of the parent: streams would write, and files be removed, at their end


def install(usable: Callable[[], bool] = lambda: True) -> None:
    """Let this process fork its guest processes while `usable` is true."""
    print_it = "import json, sys; print(json.dumps(sys.path))"
    _path[:] = json.loads(subprocess.check_output([sys.executable, "-P", "-c", print_it]))
    _usable[:] = [usable]
    _find_foreign()
    GuestProcess._spawn = staticmethod(_spawn)  # type: ignore[method-assign]


def _spawn(control: socket.socket, entry: str) -> int:
    if entry != ENTRY or not _usable[0]():
        return _start_python(control, entry)
    _find_foreign()
    # No handler of this process runs in the new one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's about threads, whose locks no guest needs
            pid = os.fork()
        if pid == 0:
            _become_guest(control)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become_guest(control: socket.socket) -> NoReturn:
    """Leave nothing of the parent that a new process would not have, and serve."""
    try:
        gc.disable()
        _take_default_actions()
        os.dup2(control.fileno(), 0)
        os.dup2(2, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if faulthandler.is_enabled():  # in C, for a descriptor that is closed now
            faulthandler.enable(os.open(os.devnull, os.O_WRONLY))
        _forget_the_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGINT])
        kernel.main()
    finally:
        os._exit(1)


def _take_default_actions() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number == signal.SIGCHLD or callable(signal.getsignal(number)):
            with suppress(OSError):
                signal.signal(number, signal.SIG_DFL)


def _forget_the_parent() -> None:
    for name in _foreign:
        _kept.append(sys.modules.pop(name))
    sys.path[:] = _path
    sys.argv[:] = ["-c"]
    with suppress(AttributeError):
        del sys.modules["__main__"].__file__
    _take_default_warnings()
    sys.unraisablehook, sys.excepthook = sys.__unraisablehook__, sys.__excepthook__
    _kept.extend((sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
    sys.stdout, sys.stderr = _stream(1, sys.__stdout__), _stream(2, sys.__stderr__)


def _find_foreign() -> None:
    """Judge the modules that are new, before the fork: there, each look would copy a page."""
    new = list(itertools.takewhile(lambda name: name != _judged[-1], reversed(sys.modules)))[::-1]
    if len(_judged) + len(new) != len(sys.modules):  # some are gone
        new = list(sys.modules)
        _judged.clear()
        _foreign.clear()
    _judged.extend(new)
    _foreign.extend(
        name for name in new if name.startswith("multiprocessing") or _is_of_no_library(name)
    )


def _take_default_warnings() -> None:
    warnings.resetwarnings()
    warnings.simplefilter("default")
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)


def _is_of_no_library(name: str) -> bool:
    file: str | None = getattr(sys.modules[name], "__file__", None)
    return name != "__main__" and file is not None and not file.startswith(tuple(_path))


def _stream(descriptor: int, like: io.TextIOWrapper | None) -> io.TextIOWrapper:
    assert like is not None
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, like.encoding, like.errors, write_through=True)
