"""The VMM of stressed pairs: a process of its own, which forks the guest's.

A strict pair, of which a side may be killed, has processes of its own. Other pairs, one after the
other, may have the same two.
"""

from __future__ import annotations

import array
import gc
import json
import os
import pickle
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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import core
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, HostError
from coalesced.hv.process import GuestProcess
from coalesced.tools import termination
from coalesced.tools.stress import guest, pattern
from coalesced.tools.stress.bodies import UNEXPECTED, Body, ForkedGuest, PlayedGuest
from coalesced.tools.stress.checker import Checker, Count
from coalesced.tools.stress.device import Group, Sink
from coalesced.tools.stress.lies import Lie, LyingSocket
from coalesced.tools.stress.pattern import Style
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.process import ProcessAccelerator, place
from coalesced.vmm.counters import Counters
from coalesced.vmm.drain import Queue
from coalesced.vmm.machine import Machine

_AFTERMATH_MS = 2
_CPUS = os.sched_getaffinity(0)  # of the parent
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
    vcpus: int = 1
    rings: int = 0  # own ones; vCPU i writes to number (i + 1) % (rings + 1), 0 being the VM's
    posted: bool = (
        False  # what raises the interrupt is a posted write; else a timed flush brings it
    )
    strict: bool = True  # only the two sides write into the segments
    lie: Lie | None = None  # of a side at the start
    lane: int = 0  # of pairs side by side: the VMM of each is placed on another CPU

    @property
    def is_reusable(self) -> bool:
        """Whether its processes can run another pair."""
        return not self.strict and self.vcpus == 1 and not self.rings


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


def fork(
    setup: Setup, tally: NDArray[np.int64], errors: int, proofs: int
) -> tuple[int, socket.socket]:
    """Start a VMM, with `errors` as its stderr: its process id, and the socket of its messages.

    It runs this pair and, if it is reusable, those whose pickled setups it is sent.

    The id is also that of a new process group, which its guest process belongs to.

    Messages are JSON: kind "guest" brings a pidfd, "ready" the ring, run and RAM segments, "done"
    and "error" end it. The end of a proof is counted in the tally and signalled by `proofs`.
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
            status = _run_all(setup, _Parent(theirs, tally, proofs))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


class _Parent(NamedTuple):
    """Things that the VMM's process shares with its parent."""

    peer: socket.socket
    tally: NDArray[np.int64]
    proofs: int


def _run_all(first: Setup, parent: _Parent) -> int:
    """Run one pair after the other; the exit status of this process."""
    guests = Guests()
    if not first.is_reusable:
        return _run(first, parent, guests, guests.start(first))
    gc.freeze()
    data = pickle.dumps(first)
    while data:
        setup: Setup = pickle.loads(data)
        process = guests.start(setup)
        _run(setup, parent, guests, process)
        data = parent.peer.recv(1 << 12)
        guests.release(process)
        gc.collect()
    return 0


def _run(setup: Setup, parent: _Parent, guests: Guests, process: GuestProcess) -> int:
    """The VMM of a pair, from its guest's start to the last message; its exit status."""
    peer = parent.peer
    _tell(peer, "guest", [guests.pidfd])
    counters, queues = Counters(), list[Queue]()
    try:
        _place(setup, process.pid)
        policy = WaitPolicy.named(setup.wait)
        accel = ProcessAccelerator(process, setup.ring_pages, policy, "any", setup.vcpus)
        with Machine(accel, staleness=setup.staleness or None) as machine:
            counters = machine.counters
            notes = _build(machine, setup, parent)
            queues = machine.queues
            _tell(peer, "ready", guests.kept())
            try:
                # Where a third party writes, an exit may look like a halt.
                while not _done(notes, setup.vcpus):
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
            coalesced=[queue.coalesced for queue in queues],
            guest_status=process.status,
        )
        return 1
    _tell(
        peer,
        "done",
        coalesced=[queue.coalesced for queue in queues],
        exits=counters.exits,
        stale_drains=counters.stale_drains,
        signals=signals,
        failures=counters.failures if setup.strict else [],
    )
    return 0


def _place(setup: Setup, guest: int) -> None:
    """Put both sides on CPUs: of each lane the VMM on another one. Raises HostError."""
    try:
        for pid in (0, guest):
            os.sched_setaffinity(pid, _CPUS)  # the pair before may have left it others
    except OSError as error:  # they were taken away just now
        raise HostError(f"--cpus {setup.cpus}: {error.strerror}") from error
    place(guest, setup.cpus, setup.lane)


def _build(machine: Machine, setup: Setup, parent: _Parent) -> GuestMemory:
    """The devices, the notes and the guest; the notes."""
    tally, sinks = parent.tally, []

    def proved(vcpu: int, number: int) -> None:
        # A third party may have changed the number on its way.
        tally[vcpu, Count.proved] = number & (1 << 63) - 1
        os.eventfd_write(parent.proofs, 1)

    groups = [Group(number) for number in range(setup.rings + 1)]
    for vcpu in range(setup.vcpus):
        stream = pattern.stream(setup.seed, setup.style, vcpu)
        checker = Checker(stream, tally[vcpu], setup.strict)
        group = groups[(vcpu + 1) % len(groups)]
        sinks.append(Sink(vcpu, checker, machine.accel.set_irq, proved, group, setup.posted))
        sinks[vcpu].map(machine)
    if setup.remaps:
        machine.loop.call_every(setup.remaps, lambda: sinks[0].remap(machine))
    notes = machine.add_ram(guest.NOTES, PAGE_SIZE)
    names = ("seed", "style", "entries", "longest", "bells", "luck", "ring_pages", "rings")
    arguments = {name: getattr(setup, name) for name in names}
    arguments["entries"] = -(-setup.entries // setup.vcpus)  # of each
    machine.accel.load_guest("coalesced.tools.stress.guest:write", arguments)
    return notes


def _done(notes: GuestMemory, vcpus: int) -> bool:
    first = guest.DONE - guest.NOTES
    return all(notes.read(first + i * guest.NOTES_EACH, 1)[0] for i in range(vcpus))


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
