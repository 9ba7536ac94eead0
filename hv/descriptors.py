"""Descriptors that another process sent: the kind of their file, and private copies of pipes."""

from __future__ import annotations

import fcntl
import os
import stat

from coalesced.hv.errors import ProtocolError

_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
_MODES = {os.O_RDONLY: "reading", os.O_WRONLY: "writing", os.O_RDWR: "reading and writing"}


def kind_of(fd: int) -> str:
    """The kind of a descriptor's file, in words."""
    mode = os.fstat(fd).st_mode
    return next((words for test, words in _KINDS if test(mode)), "something else")


def pipe_end(name: str, fd: int, access: int) -> int:
    """A new, non-blocking descriptor of a pipe that another process sent.

    `access`: os.O_RDONLY or os.O_WRONLY, as which the pipe must be open. Raises ProtocolError.
    """
    if kind_of(fd) != "a pipe":
        raise ProtocolError(f"{name}: expected a pipe, got {kind_of(fd)}")
    got = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    if got != access:
        raise ProtocolError(
            f"{name}: expected a pipe open for {_MODES[access]}, "
            f"got one open for {_MODES.get(got, 'nothing')}"
        )
    # O_NONBLOCK belongs to the open file, of which the sender may have kept a descriptor: it cannot
    # make one that was opened anew block again.
    try:
        return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # no /proc
        os.set_blocking(fd, False)
        return os.dup(fd)


def are_open(*fds: int) -> bool:
    """Whether each is the number of an open descriptor."""
    try:
        for fd in fds:
            os.fstat(fd)
    except OSError:
        return False
    return True
