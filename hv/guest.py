"""Finding a guest function by its name, and telling where a guest went wrong."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from hv.errors import one_line

Guest = Callable[..., object]


class GuestNotFound(ValueError):
    """There is no such guest; the text says what is missing."""


def load(name: str) -> Guest:
    """The function of `module:function` or `FILE.py:function`.

    The file's folder becomes the last place where it may import from. Raises GuestNotFound when
    the name has another form, the file or function is missing, or importing it fails.
    """
    where, separator, function = name.rpartition(":")
    if not separator or not where or not function:
        raise GuestNotFound(f"guest {name!r}: expected FILE.py:FUNCTION or module:function")
    try:
        module = (
            _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except (GuestNotFound, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise GuestNotFound(f"guest {where}: {describe(error, where)}") from error
    guest = getattr(module, function, None)
    if guest is None:
        raise GuestNotFound(f"guest {where}: it has no function {function!r}")
    if not callable(guest):
        raise GuestNotFound(f"guest {where}: {function!r} is no function")
    found: Guest = guest
    return found


def _load_file(path: Path) -> object:
    if not path.is_file():
        raise GuestNotFound(f"guest {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"guest_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise GuestNotFound(f"guest {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec.loader.exec_module(module)
    return module


def describe(error: BaseException, where: str = "") -> str:
    """One line about an exception out of guest code: file, line, type and text."""
    said = one_line(error)
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {said}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and not _ours(f.filename)]
    if not own:
        return said
    last = own[-1]
    place = f"line {last.lineno}" if last.filename == where else f"{last.filename}:{last.lineno}"
    return f"{place}: {said}"


def _ours(filename: str) -> bool:
    return Path(filename).parent == Path(__file__).parent
