"""The guest process: started before anything heavy is imported, ended whatever happens.

This module imports little on purpose: a command starts the guest process first and loads its own
libraries while the other side loads its own.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
from contextlib import suppress

from coalesced.hv.errors import HostError

GRACE_MS = 500  # for the end of a process whose pipes are closed already
UNKNOWN = 256  # not a possible exit status
CUT_OFF = 113  # exit status of a process whose guest has closed what it needs
# An error that keeps the process from serving is its answer to the VMM's first request.
# `kernel.main` starts the collector of garbage: passes over what is imported find none.
ENTRY = """
import gc, os
gc.disable()
try:
    import coalesced.hv.kernel
    coalesced.hv.kernel.main()
except (ImportError, MemoryError, OSError) as error:
    told = f"the guest process cannot run: {type(error).__name__}: {error}"
    os.read(0, 1)
    os.write(0, (-12).to_bytes(8, "little", signed=True) + told.encode(errors="replace"))
    os._exit(1)
"""
ASK_WHERE = signal.SIGRTMIN + 9  # makes the guest process send its guest's file and line
_LIMITS = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_MANY = "(limits: ulimit -u and -n, pids.max of a cgroup)"


class GuestProcess:
    """A running guest process and the control socket to it."""

    def __init__(self, entry: str = ENTRY) -> None:
        """Start `python -P`, so that no module of the working directory gets in, with this code.

        What the guest prints goes to stderr, at once (`-u`): the VMM may kill it at any exit.
        Only this side handles Ctrl-C: the other one starts with SIGINT blocked and then ignores it.
        Raises HostError.
        """
        try:
            self._start(entry)
        except OSError as error:
            at_limit = error.errno in _LIMITS
            why = f"{error.strerror} {_MANY}" if at_limit else f"{sys.executable}: {error.strerror}"
            raise HostError(f"the guest process cannot be started: {why}") from error

    def _start(self, entry: str) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.status: int | None = None  # as os.waitstatus_to_exitcode gives it
        self._cut_off = False
        try:
            with theirs:
                self.pid = self._spawn(theirs, entry)
            self.pidfd = self._open_pidfd()
        except BaseException:
            self.socket.close()
            raise

    @staticmethod
    def _spawn(control: socket.socket, entry: str) -> int:
        # Descriptor 0 is the socket: nothing else needs to be inherited.
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-u", "-P", "-c", entry],
            {"OPENBLAS_NUM_THREADS": "1", **os.environ},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, control.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, 2, 1),
            ],
            setsigmask=[signal.SIGINT],
            setsigdef=[signal.SIGCHLD],
        )

    def _open_pidfd(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()
            raise

    def reap(self) -> str:
        """Wait for the end of a process that is ending; says how it ended.

        A process that only closed its pipes and lives on is killed.
        """
        if self.status is None:
            lives = not self._ended().poll(GRACE_MS)
            if lives:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.status = self._wait()
            self._cut_off = lives or self.status == CUT_OFF
        if self._cut_off:
            return "the guest has closed descriptors that its process needs"
        if self.status == UNKNOWN:
            return "its exit status is lost"
        if self.status < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"killed by {names.get(-self.status, f'signal {-self.status}')}"
        return f"exit status {self.status}"

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.status is None and not self._ended().poll(0)

    def _wait(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # SIGCHLD is ignored here, or a handler of it was faster
            self._ended().poll()
            return UNKNOWN

    def _ended(self) -> select.poll:
        ending = select.poll()
        ending.register(self.pidfd, select.POLLIN)
        return ending

    def close(self) -> None:
        """Kill the process if it still runs, and give everything back. May be called twice."""
        if self.pidfd < 0:
            return
        if self.status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.reap()
        os.close(self.pidfd)
        self.pidfd = -1
        self.socket.close()
