"""Turns the error that ends a command into one line and an exit status."""

from __future__ import annotations

import errno
import os
import resource
import traceback
from pathlib import Path

from coalesced.hv import guest
from coalesced.hv.errors import CoalescedError, RequestError
from coalesced.tools.errors import BadInput

_ROOT = Path(__file__).parent.parent
_PACKAGES = [_ROOT / name for name in ("hv", "vmm", "devices", "tools")]
# The limit behind an error number, and where it is set.
_LIMITS = {
    errno.EMFILE: "this process's limit on open files is reached (ulimit -n)",
    errno.ENFILE: "the system's limit on open files is reached (fs.file-max)",
    errno.EAGAIN: "the limit on processes is reached (ulimit -u, or pids.max of a cgroup)",
    errno.ENOMEM: "out of memory (ulimit -v, or the machine has no more)",
}


def of(error: Exception) -> tuple[int, str] | None:
    """The exit status and the line; None for a fault of this program."""
    # The module of typer's usage errors differs between versions, their methods do not.
    message = getattr(error, "format_message", None)
    if message is not None:
        return int(getattr(error, "exit_code", 2)), " ".join(str(message()).split())
    not_found = isinstance(error, RequestError) and error.errno == errno.ENOENT
    if isinstance(error, BadInput) or not_found:
        return 2, str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return 2, "the working directory no longer exists: change to another one"
    text = _of_run(error)
    if text is None and guest.raised_by_user(error):
        text = guest.describe(error)  # a device's signal handler, say, which may raise anywhere
    return None if text is None else (1, text)


def _is_nowhere() -> bool:
    """True when the working directory was removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _of_run(error: Exception) -> str | None:
    """The line about an error during a run; empty when the reader of stdout has closed it."""
    if isinstance(error, CoalescedError):
        return str(error)
    if isinstance(error, OSError):
        return "" if isinstance(error, BrokenPipeError) else _system(error)
    if isinstance(error, MemoryError):
        return f"{_LIMITS[errno.ENOMEM]}: {_where(error)}"
    if isinstance(error, ImportError):
        return _import(error)
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        # Python does not say which: a stack needs address space, too.
        limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        reason = _LIMITS[errno.ENOMEM if limited else errno.EAGAIN]
        return f"no thread can be started: {reason}: {_where(error)}"
    return None


def _system(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {_LIMITS.get(error.errno or 0, reason)}"
    limit = _LIMITS.get(error.errno or 0)
    return f"{_where(error)}: {f'{reason}: {limit}' if limit else reason}"


def _import(error: BaseException) -> str:
    """The line about a module that is missing, or that a limit keeps from loading."""
    name = getattr(error, "name", None) or "a module"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause  # numpy wraps the linker's error in a page of advice
    said = _LIMITS[errno.EMFILE] if _at_limit() else " ".join(str(error).split())
    return f"cannot load {name}: {said}"


def _at_limit() -> bool:
    """True when no descriptor is left; Python then reports modules as missing."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _where(error: BaseException) -> str:
    """The innermost line of this program in the traceback."""
    stack = traceback.extract_tb(error.__traceback__)
    ours = [f for f in stack if any(Path(f.filename).is_relative_to(p) for p in _PACKAGES)]
    last = (ours or stack)[-1]
    path = Path(last.filename)
    name = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path
    return f"{name}:{last.lineno}: {last.line}" if last.line else f"{name}:{last.lineno}"
