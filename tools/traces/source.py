"""The text of a trace, plain or packed, in blocks of whole lines and never more than a limit."""

from __future__ import annotations

import codecs
import gzip
import importlib
import io
import itertools
import lzma
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

import numpy as np

from coalesced.tools.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LINE_MAX = 1 << 20
_NEWLINE = 10


@dataclass(frozen=True)
class Limits:
    """The most that is read of a trace, in all and at once, and whether a part of one will do."""

    accesses: int = 1 << 22
    text: int = 1 << 29  # bytes
    block: int = 1 << 22  # bytes
    writer: float = 10.0  # seconds in which a writer must open a FIFO
    whole: bool = True  # refuse a packed file that ends too early


ENDLESS: Final = Limits(accesses=1 << 62, text=1 << 62, whole=False)
STDIN: Final = Path("-")
Watch = Callable[[int], object]  # called with the number of bytes that were read
Cut = Callable[[], object]  # called when a packed file ends too early


def blocks(
    path: Path, limits: Limits, watch: Watch = abs, cut: Cut = lambda: None
) -> Iterator[bytes]:
    """The text of a trace, `-` for standard input; each block but the last ends after a line.

    `watch`: called after each read with its number of bytes; `cut`: called when a packed file ends
    too early, if `limits` takes a part of one. Raises BadInput when the file cannot be read, is
    damaged, or holds more text than the limit.
    """
    try:
        with _open(path) as file:
            chunks = _gathered(_unpacked(path, file, limits, watch, cut), limits.block // 4)
            yield from _whole_lines(path, chunks, limits)
    except OSError as error:
        raise BadInput(f"trace {path}: {error.strerror or error}") from error


def _open(path: Path) -> IO[bytes]:
    """Open a file or a pipe, without waiting for the writer of a FIFO."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.dup(0) if path == STDIN else os.open(path, flags)
    file = os.fdopen(fd, "rb", buffering=0)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
        return file
    file.close()
    raise BadInput(f"trace {path}: expected a file or a pipe, found a device or a socket")


def _chunks(path: Path, file: IO[bytes], limits: Limits, watch: Watch) -> Iterator[bytes]:
    if path != STDIN and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
        yield _first_of_pipe(path, file, limits)
        os.set_blocking(file.fileno(), True)
    while chunk := file.read(limits.block):
        watch(len(chunk))
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


class _Readable(Protocol):
    """An unpacked file."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes that one read of the file gives, none at the end."""


class _Joined(io.RawIOBase):
    """A file that gives chunks one after the other."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, into: WriteableBuffer, /) -> int:
        """The next bytes; none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        room = memoryview(into)
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Damaged(Exception):
    """A packed file cannot be read; the text says why."""


class _Zstd:
    """The text of a zst file of one or more frames."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._library = importlib.import_module("zstandard")
        except ImportError:
            raise _Damaged("to unpack it, install the package zstandard") from None
        self._file = file
        self._frame = self._library.ZstdDecompressor().decompressobj()
        self._rest = b""

    def read1(self, _size: int, /) -> bytes:
        """The next bytes; none at the end. A small piece of the file unpacks to a bounded one."""
        text = b""
        while not text:
            if self._frame.eof:
                self._rest = self._frame.unused_data or self._rest
            data = self._rest or self._file.read(1 << 12)
            if not data:
                if self._frame.eof:
                    break
                raise EOFError
            if self._frame.eof:
                self._frame = self._library.ZstdDecompressor().decompressobj()
            self._rest = b""
            try:
                text = self._frame.decompress(data)
            except self._library.ZstdError as error:
                raise _Damaged(str(error)) from None
        return text


# By the first bytes of a file: its kind, and a function that opens what it holds.
_PACKED: Mapping[bytes, tuple[str, Callable[[IO[bytes]], _Readable]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"\xfd7zXZ\0": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zst", _Zstd),
}


def _unpacked(
    path: Path, file: IO[bytes], limits: Limits, watch: Watch, cut: Cut
) -> Iterator[bytes]:
    """The text of a file, which may be packed."""
    chunks = _chunks(path, file, limits, watch)
    head = b""
    while len(head) < max(map(len, _PACKED)) and (chunk := next(chunks, None)) is not None:
        head += chunk
    chunks = itertools.chain([head], chunks)
    for magic, (kind, opened) in _PACKED.items():
        if head.startswith(magic):
            packed = io.BufferedReader(_Joined(chunks), limits.block)
            texts = _texts(path, kind, opened(cast("IO[bytes]", packed)), limits.block)
            try:
                yield from texts
            except EOFError as error:
                if limits.whole:
                    text = f"expected a whole {kind} file: it ends too early"
                    raise BadInput(f"trace {path}: {text}") from error
                cut()
            return
    yield from chunks


def _texts(path: Path, kind: str, unpacked: _Readable, size: int) -> Iterator[bytes]:
    """Read the contents of a packed file. Raises EOFError after the last of them if it is cut."""
    try:
        while chunk := unpacked.read1(size):
            yield chunk
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile, _Damaged) as error:
        raise BadInput(f"trace {path}: expected a whole {kind} file: {error}") from error


def _gathered(chunks: Iterator[bytes], least: int) -> Iterator[bytes]:
    """Chunks of at least this size: a pipe gives 64 KiB at once, zst any size."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= least:
            yield b"".join(held)
            held.clear()
            size = 0
    yield b"".join(held)


def lines_of(text: bytes) -> int:
    """The ends of lines in it; bytes.count takes ten times as long."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _NEWLINE))


def _whole_lines(path: Path, chunks: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    rest = b""
    total = lines = 0
    for chunk in chunks:
        if not total:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - of an editor's
        total += len(chunk)
        if total > limits.text:
            most = limits.text >> 20
            raise BadInput(f"trace {path}: expected at most {most} MiB of text, got more")
        end = chunk.rfind(b"\n") + 1
        if end:
            lines += lines_of(chunk)
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
