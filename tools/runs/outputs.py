"""Files that a command writes: none of them is one that it reads."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from coalesced.tools.errors import BadInput
from coalesced.vmm.output import Output, TextOutput
from coalesced.vmm.tracing import Sink

_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise BadInput for an option whose file is an input, or another option's.

    Terminals, FIFOs and devices may be given as often as one likes.
    """
    known = {what: path for what, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        for what, other in known.items():
            if _same(path, other):
                raise BadInput(f"{option} {path}: expected a file of its own, it is {what}")
        known[f"the one of {option}, too"] = path


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
    """The file of --trace, None without one. Raises BadInput when it takes no more.

    What a guest did until it failed is kept; of one that did nothing there is no file.
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
            if out.begun and not text.failed:
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
