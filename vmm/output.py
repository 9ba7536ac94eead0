"""Files that appear under their names when they are whole."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

_HOPS: Final = 40  # symbolic links that may follow one another, as in Linux


class Output:
    """A file that is written to beside its target and takes the target's name at the end.

    It is made by the first byte. A target that is no regular file (a terminal, a FIFO, /dev/null,
    a descriptor of this process under /dev/fd) is written to directly, and so is one whose folder
    takes no new file. A target that is a symbolic link stays one.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._fd = -1
        self._temporary: Path | None = None
        self._target = path

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._fd >= 0

    def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        self._open()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def cut(self, size: int) -> None:
        """Take back what was written behind the first `size` bytes, where that can be."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, size)

    def keep(self) -> None:
        """Give the file its name, also if nothing has been written. Raises OSError."""
        self._open()
        self._close()
        if self._temporary is not None:
            self._temporary.replace(self._target)
            self._temporary = None

    def discard(self) -> None:
        """Leave the target as it was, as far as nothing went to it directly.

        May be called twice, and behind `keep`, when there is nothing left to do.
        """
        self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0:
            return
        descriptor = own_descriptor(self.path)
        if descriptor is not None:
            self._fd = os.dup(descriptor)
            return
        try:
            mode: int | None = self.path.stat().st_mode
        except FileNotFoundError:
            mode = None
        self._target = Path(os.path.realpath(self.path))
        if mode is not None and not stat.S_ISREG(mode):
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        elif mode is not None and not os.access(self._target.parent, os.W_OK):
            self._fd = os.open(self.path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        else:
            self._open_beside(mode)

    def _open_beside(self, mode: int | None) -> None:
        """As open(2) would make it, or with the permissions of the file that it replaces."""
        name = f".{self._target.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}.part"
        temporary = self._target.with_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(temporary, flags, 0o666)
        self._temporary = temporary
        if mode is not None:
            os.fchmod(self._fd, stat.S_IMODE(mode))


class TextOutput:
    """Text on its way to an `Output`, many pieces at a time."""

    _PIECES: Final = 1024

    def __init__(self, out: Output) -> None:
        self._out = out
        self._pieces: list[str] = []
        self.failed = False

    def write(self, text: str) -> None:
        """Write some text, sooner or later. Raises OSError."""
        self._pieces.append(text)
        if len(self._pieces) >= self._PIECES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered. Raises OSError; nothing more goes there then."""
        data, self._pieces = "".join(self._pieces), []
        if data and not self.failed:
            self.failed = True
            self._out.write(data.encode(errors="backslashreplace"))
            self.failed = False


def own_descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path like /dev/stdout or /dev/fd/3 means."""
    ours = f"/proc/{os.getpid()}/fd"
    for _ in range(_HOPS):
        if os.path.realpath(path.parent) == ours:
            return int(path.name) if path.name.isdecimal() else None
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once. Raises OSError."""
    out = Output(path)
    try:
        out.write(data)
        out.keep()
    finally:
        out.discard()
