"""The bytes of a trace, plain or gzip, in blocks of whole lines and never more than a limit."""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coalesced.tools.errors import BadInput

LINE_MAX = 1 << 20

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Limits:
    """The most that is read of a trace, in all and at once."""

    accesses: int = 1 << 22
    text: int = 1 << 29  # bytes
    block: int = 1 << 22  # bytes
    writer: float = 10.0  # seconds in which a writer must open a FIFO


def blocks(path: Path, limits: Limits) -> Iterator[bytes]:
    """The text of a trace; each block ends after a line, the last one at the end of the file.

    Raises BadInput when the file cannot be read, is damaged, or holds more text than the limit.
    """
    try:
        with _open(path) as file:
            yield from _whole_lines(path, _unpacked(path, file, limits), limits)
    except OSError as error:
        raise BadInput(f"trace {path}: {error.strerror or error}") from error


def _open(path: Path) -> IO[bytes]:
    """Open a file or a pipe, without waiting for the writer of a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(fd, "rb", buffering=0)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
        return file
    file.close()
    raise BadInput(f"trace {path}: expected a file or a pipe, it is a device or a socket")


def _chunks(path: Path, file: IO[bytes], limits: Limits) -> Iterator[bytes]:
    is_pipe = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    if is_pipe:
        yield _first_of_pipe(path, file, limits)
        os.set_blocking(file.fileno(), True)
    while chunk := file.read(limits.block):
        yield chunk


def _first_of_pipe(path: Path, file: IO[bytes], limits: Limits) -> bytes:
    """The first chunk. A pipe without a writer reads as ended, one with a silent writer as None."""
    deadline = time.monotonic() + limits.writer
    while (first := file.read(limits.block)) == b"":
        if time.monotonic() > deadline:
            raise BadInput(
                f"trace {path}: nobody wrote to this FIFO for {limits.writer:.0f} seconds"
            )
        time.sleep(0.02)
    return first or b""


def _unpacked(path: Path, file: IO[bytes], limits: Limits) -> Iterator[bytes]:
    """The text of a file, which may be gzip with several members."""
    chunks = _chunks(path, file, limits)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_GZIP):
            break
    if not head.startswith(_GZIP):
        yield head
        yield from chunks
        return
    member = zlib.decompressobj(wbits=31)
    data = head
    try:
        while True:
            if member.eof:
                # Between members, and after the last one, there may be zeros.
                data = (member.unused_data or data).lstrip(b"\0")
                if data:
                    member = zlib.decompressobj(wbits=31)
            if data:
                yield member.decompress(data, limits.block)
                data = member.unconsumed_tail
            if not data and not (member.eof and member.unused_data):
                data = next(chunks, b"")
                if not data:
                    break
    except zlib.error as error:
        raise BadInput(f"trace {path}: expected a whole gzip file: {error}") from error
    if not member.eof:
        raise BadInput(f"trace {path}: expected a whole gzip file: it ends too early")


def _whole_lines(path: Path, chunks: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    rest = b""
    total = lines = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limits.text:
            most = limits.text >> 20
            raise BadInput(f"trace {path}: expected at most {most} MiB of text, got more")
        end = chunk.rfind(b"\n") + 1
        if end:
            lines += chunk.count(b"\n")
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > LINE_MAX:
            raise BadInput(
                f"trace {path}: line {lines + 1}: expected a line of text, "
                f"it does not end within {LINE_MAX >> 20} MiB"
            )
    if rest:
        yield rest
