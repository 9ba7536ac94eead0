"""The files of an advice, each whole or not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coalesced.tools.advise import page as pages
from coalesced.tools.advise import perfetto
from coalesced.tools.advise.advice import Advice
from coalesced.tools.advise.recording import Recording
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.perfetto import available
from coalesced.vmm.output import Output

_PIECE: Final = 1 << 20  # bytes that are written at once


def write(
    recordings: Iterable[Recording], advice: Advice, page: Path | None, trace: Path | None
) -> None:
    """Write the page and the trace for Perfetto that were asked for. Raises BadInput."""
    if page is not None:
        write_html(page, advice)
    if trace is not None:
        write_perfetto(trace, recordings, advice)


def write_html(path: Path, advice: Advice) -> None:
    """Write the advice as a page. Raises BadInput if the file cannot be written."""
    with _written("--html", path) as write:
        write(pages.page(advice).encode(errors="replace"))


def write_perfetto(path: Path, recordings: Iterable[Recording], advice: Advice) -> None:
    """Write the recordings for Perfetto. Raises BadInput without the library, or as above."""
    available()
    with _written("--perfetto", path) as write:
        perfetto.export(recordings, advice, write)


@contextmanager
def _written(option: str, path: Path) -> Iterator[Callable[[bytes], None]]:
    out, held = Output(path), io.BytesIO()

    def write(data: bytes) -> None:
        held.write(data)
        if held.tell() >= _PIECE:
            flush()

    def flush() -> None:
        out.write(held.getvalue())
        held.seek(0)
        held.truncate()

    try:
        yield write
        flush()
        out.keep()
    except OSError as error:
        raise BadInput(f"{option} {path}: {error.strerror or error}") from error
    finally:
        out.discard()
