"""The files that a command writes; none of them may be one that it reads."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.errors import BadInput
from coalesced.tools.runs.options import Picture, warn_of_picture
from coalesced.vmm.display.png import write_png
from coalesced.vmm.output import Output, TextOutput
from coalesced.vmm.tracing import Sink

_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise BadInput when an option's file is an input, or another option's file.

    Terminals, FIFOs and devices may be given several times.
    """
    known = {what: path for what, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        for what, other in known.items():
            if _same(path, other):
                raise BadInput(f"{option} {path}: expected a file of its own, but it is {what}")
        known[f"also the file of {option}"] = path


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def guest_files(guest: str, devices: Iterable[str]) -> dict[str, Path | None]:
    """The files of a guest FILE.py:FUNCTION and of devices FILE.py:CLASS,..."""
    named = [("the guest's", guest)]
    named += [("a device's", spec.partition(",")[0]) for spec in devices]
    found: dict[str, Path | None] = {}
    for whose, text in named:
        where = text.rpartition(":")[0]
        if where.endswith(".py"):
            found[f"{whose} {where}"] = Path(where)
    return found


@contextlib.contextmanager
def trace_file(path: Path | None) -> Iterator[Sink | None]:
    """The file of --trace, None without one. Raises BadInput when the disk is full.

    After a failure the accesses up to it are kept; without any access no file is written.
    """
    if path is None:
        yield None
        return
    out = Output(path)
    text = TextOutput(out)
    try:
        try:
            yield text
        except BaseException:
            text.flush()
            if out.size and not text.failed:
                out.keep()
            raise
        text.flush()
        out.keep()
    except OSError as error:
        if error.errno not in _NO_MORE:
            raise
        raise BadInput(f"--trace {path}: {error.strerror}") from error
    finally:
        out.discard()


def save_picture(picture: Picture | None, screen: NDArray[np.uint8] | None) -> str | None:
    """Write a screen as PNG; the file's name, None when none was written.

    Raises BadInput when there is no screen, or the file that the user chose cannot be written.
    """
    if picture is None:
        return None
    try:
        _save(picture.path, screen)
    except BadInput as error:
        if picture.asked:
            raise
        warn_of_picture(error)
        return None
    return str(picture.path)


def _save(png: Path, screen: NDArray[np.uint8] | None) -> None:
    if screen is None:
        raise BadInput(f"--png {png}: no device of this machine has a screen")
    try:
        write_png(png, screen)
    except OSError as error:
        raise BadInput(f"--png {png}: {error.strerror or error}") from error
