"""Finding a guest function by its name, and locating the error of a guest."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import NoReturn

from coalesced.hv import children, signals
from coalesced.hv.errors import RequestError, one_line

Guest = Callable[..., object]
_ROOT = os.path.dirname(os.path.dirname(__file__))
_RUNS_NOTHING = 0x20 | 0x80 | 0x200  # inspect's CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
_GUESTS = os.path.join(_ROOT, "tools", "guests", "")


class GuestNotFound(ValueError):
    """There is no such guest; the text names the missing part."""


def load(name: str) -> Guest:
    """The function of `module:function` or `FILE.py:function`.

    The file's folder becomes the last place where it may import from. Raises GuestNotFound when
    the name has another form, the file or function is missing, or importing it fails.
    """
    where, separator, function = name.rpartition(":")
    if not separator or not where or not function:
        raise GuestNotFound(f"guest {name!r}: expected FILE.py:FUNCTION or module:function")
    try:
        module = load_file(where) if where.endswith(".py") else importlib.import_module(where)
    except (GuestNotFound, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise GuestNotFound(f"guest {where}: {describe(error, where)}") from error
    guest = getattr(module, function, None)
    if guest is None:
        raise GuestNotFound(f"guest {where}: it has no function {function!r}")
    if not callable(guest):
        raise GuestNotFound(f"guest {where}: {function!r} is not a function")
    if getattr(getattr(guest, "__code__", None), "co_flags", 0) & _RUNS_NOTHING:
        raise GuestNotFound(
            f"guest {where}: expected a plain function, {function!r} is a generator or a coroutine"
        )
    found: Guest = guest
    return found


def requested(argument: bytes) -> tuple[Guest, dict[str, object]]:
    """The function that a request names, and the arguments that it gives. Raises RequestError."""
    try:
        wanted = json.loads(argument)
        name, arguments = "" + wanted["guest"], dict(wanted["arguments"].items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(errno.EINVAL, f"guest: expected name and arguments: {error}") from error
    try:
        with signals.let_in():
            return load(name), arguments
    except GuestNotFound as error:
        raise RequestError(errno.ENOENT, str(error)).with_frames(frames(error)) from error


def load_file(path: str, prefix: str = "") -> ModuleType:
    """Run a user's file as a module; its folder becomes the last place to import from.

    The module has the name that an import finds the file by. Where that is another module's it is
    named with `prefix`; without one it is the main module of the processes that `multiprocessing`
    starts, so that they find its functions. Raises GuestNotFound when there is no such Python file,
    and whatever its code raises.
    """
    if not os.path.isfile(path):
        raise GuestNotFound(f"guest {path}: no such file")
    folder = os.path.dirname(os.path.realpath(path))
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(_module_name(path, prefix), path)
    if spec is None or spec.loader is None:
        raise GuestNotFound(f"guest {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _module_name(path: str, prefix: str) -> str:
    name, resolved = os.path.splitext(os.path.basename(path))[0], os.path.realpath(path)
    if "." not in name:  # otherwise the name is a package's
        with suppress(ImportError, ValueError):
            found = importlib.util.find_spec(name)
            if found and found.origin and os.path.realpath(found.origin) == resolved:
                return name
    if prefix:
        return f"{prefix}_{name}"
    children.keep_folder_out()  # this imports multiprocessing, which changes the name
    sys.modules["__main__"].__file__ = resolved
    return "__mp_main__"


def end_fork(error: BaseException | None) -> NoReturn:
    """End a process that the guest forked, as a program of its own would end.

    `error`: what came out of the guest's function in it.
    """
    status = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = error.code or 0
    elif error is not None:
        sys.stderr.write(f"coalesced: a fork of the guest process: {describe(error)}\n")
        status = 1
    leave(status)


def leave(status: int) -> NoReturn:
    """Threads that a guest left behind do not keep this process alive."""
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def describe(error: BaseException, where: str = "") -> str:
    """One line about an exception out of guest code: file, line, type and text.

    The place is the innermost line of the user's own files, however deep in a library the
    exception was raised. `where`: a file that the caller names already.
    """
    said = one_line(error)
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{_place(error.filename or where, error.lineno, where)}: {said}"
    last = innermost(traceback.extract_tb(error.__traceback__))
    return f"{_place(last.filename, last.lineno, where)}: {said}" if last else said


def frames(error: BaseException) -> str:
    """The whole traceback of an exception, as Python prints it."""
    return "".join(traceback.format_exception(error))


def place(stack: Iterable[traceback.FrameSummary]) -> str:
    """File and line of the innermost frame that is the user's own; empty without one."""
    last = innermost(stack)
    return f"{last.filename}:{last.lineno}" if last else ""


def innermost(stack: Iterable[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """The innermost of the frames that is the user's own; without one, the innermost of a guest
    that comes with this program."""
    known = [frame for frame in stack if not frame.filename.startswith("<")]
    guests = [frame for frame in known if frame.filename.startswith(_GUESTS)]
    own = [frame for frame in known if not frame.filename.startswith(_libraries())]
    candidates = own or guests
    return candidates[-1] if candidates else None


def raised_by_user(error: BaseException) -> bool:
    """True when an exception was raised in a file of neither this program nor a library."""
    stack = traceback.extract_tb(error.__traceback__)
    return bool(stack) and not stack[-1].filename.startswith(("<", *_libraries()))


def _place(filename: str, line: int | None, where: str) -> str:
    return f"line {line}" if filename == where else f"{filename}:{line}"


def _libraries() -> tuple[str, ...]:
    """The folders of code that no user wrote for this run."""
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.add(_ROOT)
    return tuple(f"{folder}{os.sep}" for folder in folders)
