"""Processes that corrupt side by side, each with pairs of its own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from coalesced.hv import core
from coalesced.hv.errors import HostError
from coalesced.tools.stress.totals import Totals

Tell = Callable[[Totals], None]
Work = Callable[[int, Tell], Totals]
"""Takes the number of its lane and where to report its counts so far; the counts in the end."""

_PR_SET_CHILD_SUBREAPER = 36
_MESSAGE = 1 << 18  # above what a socket sends at once
_FAILED = 1


def reap_orphans() -> None:
    """Make this process the parent of guest processes that outlive their VMM."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(work: Work, lanes: int, step: Callable[[Totals], bool]) -> None:
    """Do the work in several processes.

    `step` takes the sum of their counts so far, and ends them when it returns True, as Ctrl-C does;
    it is called once more when all have ended. Raises HostError.
    """
    running = list[_Lane]()
    try:
        for number in range(lanes):
            running.append(_Lane(number, work))
        while waiting := [lane for lane in running if not lane.ended]:
            for lane in select.select(waiting, [], [])[0]:
                lane.hear()
            if step(Totals.sum_of(lane.totals for lane in running)):
                break
    finally:
        for lane in running:
            lane.interrupt()
        for lane in running:
            lane.close()
        step(Totals.sum_of(lane.totals for lane in running))


class Cpus:
    """CPUs that pairs which spin do not share with each other.

    While a side waits for a CPU, the other one spins: such pairs, side by side, take several times
    the CPU time that they take one after the other. Pairs that sleep run beside them.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("CPUs", os.MFD_CLOEXEC)  # a byte of it is locked for each

    @contextmanager
    def taken(self, cpus: Iterable[int]) -> Iterator[None]:
        """Have these CPUs to oneself; waits for them."""
        taken = list[int]()
        try:
            for cpu in sorted(cpus):  # all in one order: no two lanes wait for each other
                fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, cpu)
                taken.append(cpu)
            yield
        finally:
            for cpu in taken:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, cpu)


class _Lane:
    """A process that works, and its report."""

    def __init__(self, number: int, work: Work) -> None:
        """Raises HostError."""
        self.totals, self.ended = Totals(), False
        try:
            self._start(number, work)
        except OSError as error:
            raise HostError(f"no process for corruptions: {error.strerror}") from error

    def _start(self, number: int, work: Work) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        # Only the parent handles Ctrl-C, and sends the lanes SIGTERM.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            self._pid = os.fork()
            if not self._pid:
                self._socket.close()
                _become(number, work, theirs, parent)
        except OSError:
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def hear(self) -> None:
        """Take a report, or the end. Raises HostError."""
        data = b""
        with suppress(ConnectionResetError):
            data = self._socket.recv(_MESSAGE)
        if not data:
            self.ended = True
            return
        told = pickle.loads(data)
        if isinstance(told, HostError):
            raise told
        self.totals = told

    def interrupt(self) -> None:
        """Make it end its work; it reports its counts once more."""
        if not self.ended:
            os.kill(self._pid, signal.SIGTERM)

    def close(self) -> None:
        """Wait for its last report and its end."""
        while not self.ended:
            with suppress(Exception):  # whatever it says, the other ones are to be ended, too
                self.hear()
        self._socket.close()
        if os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]):
            self.totals.fail(None, "a process that corrupts has failed")


def _become(number: int, work: Work, peer: socket.socket, parent: int) -> None:
    """Work, and report. Never returns."""

    def tell(told: object) -> None:
        peer.send(pickle.dumps(told))

    status = _FAILED
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _interrupt)
        if core.die_with_parent() == parent:
            reap_orphans()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            told = _done(work, number, tell)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            tell(told)
        status = 0
    except KeyboardInterrupt:  # before or after the work: it has reported all
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _done(work: Work, number: int, tell: Tell) -> Totals | HostError:
    try:
        return work(number, tell)
    except HostError as error:
        return error


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: it must not interrupt the clean-up
    raise KeyboardInterrupt
