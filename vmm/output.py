"""Files that appear under their names when they are whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import Final

_HOPS: Final = 40  # symbolic links that may follow one another, as in Linux


class Output:
    """A file that is written to beside its target and takes the target's name at the end.

    It is made by the first byte. A target that is no regular file (a terminal, a FIFO, /dev/null,
    a descriptor of this process under /dev/fd) is written to directly, and so is one whose folder
    takes no new file. A target that is a symbolic link stays one. An unfinished file of a process
    that was killed is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._fd = -1
        self._temporary: Path | None = None
        self._target = path
        self._size = 0
        self._torn = False  # some of a write is there that did not end
        self._shared = False  # a descriptor that others write to, too

    @property
    def size(self) -> int:
        """Bytes of the writes that ended."""
        return self._size

    def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError.

        Of a write that fails or is interrupted a regular file keeps nothing.
        """
        self._open()
        self._cut()
        size = self._size + len(data)
        self._torn = True
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._size, self._torn = size, False

    def _cut(self) -> None:
        """Remove the rest of an incomplete write, if possible."""
        if self._torn and not self._shared:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
        self._torn = False

    def keep(self) -> None:
        """Give the file its name, also if nothing has been written. Raises OSError."""
        self._open()
        self._cut()
        lock = os.dup(self._fd)
        try:
            self._close()  # a network file system reports failed writes here
            if self._temporary is not None:
                self._temporary.replace(self._target)
                self._temporary = None
        finally:
            os.close(lock)

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
            self._fd, self._shared = os.dup(descriptor), True
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
        """As open(2) would make it, or with the permissions of the file that it replaces.

        It is locked until it is renamed, which shows another PID namespace that its writer lives.
        """
        start = f".{self._target.name[:100]}."
        _remove_abandoned(self._target.parent, start)
        temporary = self._target.with_name(f"{start}{os.getpid()}-{os.urandom(4).hex()}.part")
        self.discard()  # of an `open` that Ctrl-C interrupted
        self._temporary = temporary  # noted first: Ctrl-C may come before `open` has returned
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(temporary, flags, 0o666)
        except OSError:
            self._temporary = None
            raise
        _locked(self._fd)
        if mode is not None:
            os.fchmod(self._fd, stat.S_IMODE(mode))


def _remove_abandoned(folder: Path, start: str) -> None:
    """Remove the unfinished files of a target whose writers have been killed."""
    unfinished = re.compile(rf"{re.escape(start)}([1-9][0-9]*)-[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for found in filter(None, map(unfinished.fullmatch, os.listdir(folder))):
            if not _is_running(int(found[1])):
                _remove_unlocked(folder / found[0])


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def _remove_unlocked(path: Path) -> None:
    """Not where files cannot be locked, and not a link or a FIFO."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and _locked(fd):
                path.unlink()
        finally:
            os.close(fd)


def _locked(fd: int) -> bool:
    """Lock an open file until its last descriptor is closed; False where that cannot be."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class TextOutput:
    """Text on its way to an `Output`, many pieces at a time. Nobody else writes to that."""

    _PIECES: Final = 1024

    def __init__(self, out: Output) -> None:
        self._out = out
        self._pieces: list[str] = []
        self._data = b""  # written when the output has `_end` bytes
        self._end = 0
        self.failed = False

    def write(self, text: str) -> None:
        """Write some text, possibly later. Raises OSError."""
        self._pieces.append(text)
        if len(self._pieces) >= self._PIECES:
            self.flush()

    def flush(self) -> None:
        """Write the collected text. Raises OSError; nothing is written after that.

        A call that Ctrl-C interrupts loses nothing: the next one goes on.
        """
        self._write()
        data = "".join(self._pieces).encode(errors="backslashreplace")
        end = self._out.size + len(data)
        self._data, self._end, self._pieces = data, end, []
        self._write()

    def _write(self) -> None:
        if self._out.size < self._end and not self.failed:
            try:
                self._out.write(self._data)
            except OSError:
                self.failed = True
                raise


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
