"""The VMM of a stressed pair: a process of its own, which forks the guest's.

Forked, not started anew: a pair is there in milliseconds, with the core that the parent uses.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import core, kernel
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError
from coalesced.hv.process import GuestProcess
from coalesced.tools import termination
from coalesced.tools.stress import guest, pattern
from coalesced.tools.stress.checker import Checker
from coalesced.tools.stress.device import Sink
from coalesced.tools.stress.lies import Lie, LyingSocket
from coalesced.tools.stress.pattern import Style
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.counters import Counters
from coalesced.vmm.machine import Machine

_AFTERMATH_MS = 2
UNEXPECTED = 70  # exit status after an exception that is no known error
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


@dataclass(frozen=True)
class Setup:
    """The parameters of a pair."""

    ring_pages: int
    start: int  # slot where both indices stand at first
    wait: str
    cpus: str
    staleness: float  # seconds; 0.0: off
    seed: int  # of the stream
    style: Style
    entries: int  # how many the guest writes at least; 0: until it is stopped
    longest: int  # operations of a burst at most
    bells: float  # share of bursts that wait for an interrupt
    remaps: float  # seconds between two changes of the mapping; 0: none
    luck: int  # seed of the bursts
    strict: bool = True  # only the two sides write into the segments
    lie: Lie | None = None  # of a side at the start


class KeepingSocket(LyingSocket):
    """A control socket that keeps the descriptors sent over it: segments and pipes."""

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
                if stat.S_ISFIFO(mode):
                    self.pipes.append(os.dup(fd))
                if not stat.S_ISREG(mode):
                    continue
                if not self.kept:
                    # The ring, before its ends are created: both continue from its indices.
                    os.pwrite(fd, struct.pack("<II", self.start, self.start), 0)
                self.kept.append(os.dup(fd))


class ForkedGuest(GuestProcess):
    """A guest process that is a fork of this one, and otherwise like any."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lie = setup.lie
        self.pid = os.fork()
        if self.pid == 0:
            _become(theirs.fileno(), lie if lie is not None and lie.side == "hv" else None)
        keeping = KeepingSocket(fileno=ours.detach())
        keeping.kept, keeping.pipes, keeping.start = [], [], setup.start
        keeping.lie = lie if lie is not None and lie.side == "vmm" else None
        self._keeping = keeping
        # In strict pairs no further descriptor hides the end of a side from the other.
        self._theirs = theirs if not setup.strict else None
        if setup.strict:
            theirs.close()
        self.socket = keeping
        self.pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None

    def kept(self) -> list[int]:
        """Ring, run segment and RAM; for a third party, also pipes and the ends of the socket."""
        keeping = self._keeping
        if self._theirs is None:
            return keeping.kept
        return [*keeping.kept, *keeping.pipes, keeping.fileno(), self._theirs.fileno()]


def _become(control: int, lie: Lie | None) -> None:
    """Run the guest process. Never returns."""
    status = UNEXPECTED
    if lie is not None:
        LyingSocket.lie = lie
        socket.socket = LyingSocket  # type: ignore[misc]
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


def fork(setup: Setup, tally: NDArray[np.int64], errors: int) -> tuple[int, socket.socket]:
    """Start a VMM, with `errors` as its stderr: its process id, and the socket of its messages.

    The id is also that of a new process group, which its guest process belongs to.

    Messages are JSON: kind "guest" brings a pidfd, "ready" the ring, run and RAM segments, "done"
    and "error" end it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    # Only the parent handles Ctrl-C: the VMM starts with SIGINT blocked and then ignores it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        pid = os.fork()
        with suppress(ProcessLookupError):
            os.setpgid(pid, 0)  # in both processes: neither goes on before it
        if pid:
            theirs.close()
            return pid, ours
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        termination.let_go()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = UNEXPECTED
    try:
        os.dup2(errors, 2)
        ours.close()
        if core.die_with_parent() == parent:
            status = _run(setup, tally, theirs)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _run(setup: Setup, tally: NDArray[np.int64], peer: socket.socket) -> int:
    """The VMM's process, from its guest's start to the last message; its exit status."""
    process = ForkedGuest(setup)
    _tell(peer, "guest", [process.pidfd])
    counters = Counters()
    try:
        accel = ProcessAccelerator(
            process, setup.ring_pages, WaitPolicy.named(setup.wait), setup.cpus
        )
        with Machine(accel, staleness=setup.staleness or None) as machine:
            counters = machine.counters
            notes = _build(machine, setup, tally)
            _tell(peer, "ready", process.kept())
            try:
                # Where a third party writes, an exit may look like a halt.
                while not notes.read(guest.DONE - guest.NOTES, 1)[0]:
                    machine.resume()
                machine.flush()
            except CoalescedError:
                if not setup.strict:
                    _await_end(process)
                raise
            signals = accel.signals()
    except CoalescedError as error:
        _tell(
            peer,
            "error",
            type=type(error).__name__,
            text=str(error),
            coalesced=counters.coalesced,
            guest_status=process.status,
        )
        return 1
    _tell(
        peer,
        "done",
        coalesced=counters.coalesced,
        exits=counters.exits,
        stale_drains=counters.stale_drains,
        signals=signals,
        failures=counters.failures if setup.strict else [],
    )
    return 0


def _build(machine: Machine, setup: Setup, tally: NDArray[np.int64]) -> GuestMemory:
    """The device, the notes and the guest; the notes."""
    checker = Checker(pattern.stream(setup.seed, setup.style), tally, setup.strict)
    sink = Sink(checker, machine.accel.set_irq)
    sink.map(machine)
    if setup.remaps:
        machine.loop.call_every(setup.remaps, lambda: sink.remap(machine))
    notes = machine.add_ram(guest.NOTES, PAGE_SIZE)
    names = ("seed", "style", "entries", "longest", "bells", "luck")
    arguments = {name: getattr(setup, name) for name in names}
    machine.accel.load_guest("coalesced.tools.stress.guest:write", arguments)
    return notes


def _await_end(process: GuestProcess) -> None:
    """Wait a moment: the error may also end the guest process, whose status is then reported."""
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    poll.poll(_AFTERMATH_MS)


def _tell(peer: socket.socket, kind: str, fds: Iterable[int] = (), **what: object) -> None:
    try:
        socket.send_fds(peer, [json.dumps({"kind": kind, **what}).encode()], list(fds))
    except OSError:
        os._exit(1)  # the parent is gone, or is done with us
