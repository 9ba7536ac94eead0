"""Guest processes of stressed pairs: forks of the VMM's process.

Forked, not started anew: a pair is there in milliseconds, with the core that the parent uses. Where
neither side is killed on purpose, one process plays the guest process of many pairs, one after the
other: a fork, and the copies of pages that follow it, cost more than everything else in a pair that
detects its first corruption.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import sys
import traceback
from contextlib import suppress
from types import FrameType

from coalesced.hv import core, kernel
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.process import GRACE_MS, GuestProcess
from coalesced.tools.stress.lies import Lie, LyingSocket

UNEXPECTED = 70  # exit status after an exception that is no known error
END = signal.SIGTRAP
"""Ends what the process plays. Being one of `signals.FAULTS`, it also reaches a guest process that
waits for its VMM; what it leaves halfway begins anew for the next pair."""
_OWN_END_MS = 20  # for a process that has found an error, too, to report it
_CHANNEL = 3  # the descriptor of the process's side of the channel
_REAL_SOCKET = socket.socket


class ForkedGuest(GuestProcess):
    """A guest process that is a fork of this one, and otherwise like any."""

    def __init__(self, control: socket.socket, theirs: socket.socket, lie: Lie | None) -> None:
        """`control`: this side of the socket whose other end is `theirs`."""
        self.pid = os.fork()
        if self.pid == 0:
            _become(theirs.fileno(), lie)
        self.socket = control
        self.pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None


def _become(control: int, lie: Lie | None) -> None:
    """Run the guest process. Never returns."""
    status = UNEXPECTED
    _lie(lie)
    try:
        os.dup2(control, 0)
        os.dup2(2, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        kernel.main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _lie(lie: Lie | None) -> None:
    """Let the sockets that this process opens from now on lie, or be honest."""
    LyingSocket.lie = lie
    socket.socket = LyingSocket if lie else _REAL_SOCKET  # type: ignore[misc]


class Body:
    """A process that plays guest processes, one after the other."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        signal.signal(END, _end)  # the child has it from its first moment on
        self.pid = os.fork()
        if self.pid == 0:
            _play_all(theirs.fileno())
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)

    def close(self) -> int:
        """Kill the process if it still runs; its exit status, as of os.waitstatus_to_exitcode."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        self.channel.close()
        return status


class PlayedGuest(GuestProcess):
    """A guest process that a `Body` plays.

    `pidfd` is a copy of the channel to the body, readable when the process, or what it plays, has
    ended; the number of the channel itself may be another file's after the body's end. The status
    of a process that ended is its own, of another what it would be.
    """

    def __init__(
        self, body: Body, control: socket.socket, theirs: socket.socket, lie: Lie | None
    ) -> None:
        """`control`: this side of the socket whose other end is `theirs`."""
        self.pid = body.pid
        self.socket = control
        self.pidfd = os.dup(body.channel.fileno())
        self.status: int | None = None
        self.body: Body | None = body
        with suppress(BrokenPipeError):  # killed from outside: the first request reports it
            socket.send_fds(body.channel, [pickle.dumps(lie)], [theirs.fileno()])

    def _wait(self) -> int:
        body = self.body
        assert body is not None
        played = b""
        with suppress(ConnectionResetError, BlockingIOError):
            played = body.channel.recv(1, socket.MSG_DONTWAIT)
        if played:
            return played[0]
        self.body = None
        return body.close()

    def reap(self) -> str:
        if self.status is None and not self._ended().poll(_OWN_END_MS):
            self._send_end()
        if self.status is None and not self._ended().poll(GRACE_MS):
            assert self.body is not None
            self.status = self.body.close()
            self.body = None
        return super().reap()

    def end(self) -> None:
        """End the played process, by a signal or at worst with its body."""
        if self.status is None:
            self._send_end()
            self.reap()

    def _send_end(self) -> None:
        assert self.body is not None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.body.pidfd, END)

    def restart(self, policy: WaitPolicy) -> None:
        """Play an ended process anew, with the VM that it has."""
        assert self.body is not None
        self.status = None
        with suppress(BrokenPipeError):
            self.body.channel.send(pickle.dumps(policy))

    def close(self) -> None:
        """End the played process, and its VM."""
        if self.pidfd < 0:
            return
        self.socket.close()
        self.end()
        os.close(self.pidfd)
        self.pidfd = -1


def _play_all(channel: int) -> None:
    """Play guest processes until the channel ends. Never returns."""
    try:
        os.dup2(channel, _CHANNEL)
        os.dup2(2, 1)
        core.die_with_parent()
        gc.freeze()
        peer = socket.socket(fileno=_CHANNEL)
        played = _play(peer, None)
        while played is not None:
            played = _play(peer, played)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(UNEXPECTED)


def _play(channel: socket.socket, before: kernel.Kernel | None) -> kernel.Kernel | None:
    """Play one guest process, anew or with the VM of the one before, and send its exit status.

    Returns its kernel's part; None when there is none to play.
    """
    data, fds, _, _ = socket.recv_fds(channel, 1 << 12, 1)
    if not data:
        return None
    order: WaitPolicy | Lie | None = pickle.loads(data)
    if isinstance(order, WaitPolicy):
        assert before is not None
        before.restart(order)
        played = before
    else:
        played = _begin(fds[0], before, order)
    status = _status_of(played)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    channel.send(bytes([status]))
    return played


def _begin(control: int, before: kernel.Kernel | None, lie: Lie | None) -> kernel.Kernel:
    """A new kernel's part with this control socket; all that the one before had is closed."""
    if before is not None:
        before.give_up()
        before.control.close()
        gc.collect()
    os.closerange(_CHANNEL + 1, control)
    os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))
    _lie(lie)
    return kernel.Kernel(socket.socket(fileno=control))


class _Play:
    """Whether a guest process is being played, which the signal ends."""

    under_way = False


def _status_of(played: kernel.Kernel) -> int:
    """Play a guest process: its exit status, 0 if the signal ended it."""
    status = 0
    try:
        # From here on the signal raises, once; behind the last line here it does not.
        _Play.under_way = True
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        status = kernel.run(played)
        _Play.under_way = False
    except PeerDied:
        _Play.under_way = False
    return status


def _end(_number: int, _frame: FrameType | None) -> None:
    if _Play.under_way:
        _Play.under_way = False
        raise PeerDied("the VMM has ended")
