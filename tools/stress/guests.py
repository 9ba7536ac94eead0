"""The guest processes that a stressed VMM starts, and the descriptors that it shares with them."""

from __future__ import annotations

import array
import os
import socket
import stat
import struct
from collections.abc import Iterable
from typing import Any

from coalesced.hv import core
from coalesced.hv.process import GuestProcess
from coalesced.tools.stress.bodies import Body, ForkedGuest, PlayedGuest
from coalesced.tools.stress.lies import LyingSocket
from coalesced.tools.stress.setups import Setup

_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


class KeepingSocket(LyingSocket):
    """A control socket that keeps the descriptors sent over it: segments, pipes and eventfds."""

    kept: list[int]
    pipes: list[int]
    start = 0

    def recvmsg(self, *arguments: Any) -> Any:
        got = super().recvmsg(*arguments)
        self._keep(got[1])
        return got

    def sendmsg(self, buffers: Any, ancillary: Any = (), *arguments: Any) -> int:
        self._keep(ancillary)
        return super().sendmsg(buffers, ancillary, *arguments)

    def _keep(self, ancillary: Iterable[tuple[int, int, Any]]) -> None:
        for level, kind, content in ancillary:
            if (level, kind) != _RIGHTS:
                continue
            fds = array.array("i")
            fds.frombytes(bytes(content))
            for fd in fds:
                mode = os.fstat(fd).st_mode
                if stat.S_ISFIFO(mode) or not stat.S_IFMT(mode):  # an eventfd has no type
                    self.pipes.append(os.dup(fd))
                if not core.is_shared_memory(fd):
                    continue  # a liar's: its receiver is to find out
                if not self.kept:
                    # The ring, before its ends are created: both continue from its indices.
                    os.pwrite(fd, struct.pack("<II", self.start, self.start), 0)
                self.kept.append(os.dup(fd))


class Guests:
    """The guest processes of a VMM's process, one after the other."""

    def __init__(self) -> None:
        self._body: Body | None = None
        self._keeping: KeepingSocket | None = None
        self._theirs: socket.socket | None = None
        self.pidfd = -1  # of the process

    def start(self, setup: Setup) -> GuestProcess:
        """The guest process of a pair. Of a strict one, or of several vCPUs, whose threads stay
        behind, it is a process of its own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lie = setup.lie
        keeping = KeepingSocket(fileno=ours.detach())
        keeping.kept, keeping.pipes, keeping.start = [], [], setup.start
        keeping.lie = lie if lie is not None and lie.side == "vmm" else None
        lie = lie if lie is not None and lie.side == "hv" else None
        self._keeping = keeping
        if not setup.strict:
            self._theirs = theirs
        if not setup.is_reusable:
            process = ForkedGuest(keeping, theirs, lie)
            if setup.strict:
                theirs.close()  # no further descriptor hides the end of a side from the other
            self.pidfd = process.pidfd
            return process
        if self._body is None:
            self._body = Body()
        self.pidfd = self._body.pidfd
        return PlayedGuest(self._body, keeping, theirs, lie)

    def kept(self) -> list[int]:
        """Ring, run segments, own rings and RAM; for a third party, also pipes, eventfds and the
        socket."""
        keeping = self._keeping
        assert keeping is not None
        if self._theirs is None:
            return keeping.kept
        return [*keeping.kept, *keeping.pipes, keeping.fileno(), self._theirs.fileno()]

    def release(self, process: GuestProcess) -> None:
        """Close the descriptors of a pair that has ended."""
        assert isinstance(process, PlayedGuest)
        self._body = process.body
        assert self._keeping is not None
        for fd in (*self._keeping.kept, *self._keeping.pipes):
            os.close(fd)
        if self._theirs is not None:
            self._theirs.close()
