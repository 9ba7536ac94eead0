"""The VMM of stressed pairs: a process of its own, which forks the guest's.

A strict pair, of which a side may be killed, has processes of its own. Other pairs, one after the
other, may have the same two.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import core, doorbell
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, HostError
from coalesced.hv.process import GuestProcess
from coalesced.tools import termination
from coalesced.tools.stress import guest, pattern
from coalesced.tools.stress.bodies import UNEXPECTED, PlayedGuest
from coalesced.tools.stress.checker import COUNTS, Checker, Count
from coalesced.tools.stress.device import Group, Sink
from coalesced.tools.stress.guests import Guests
from coalesced.tools.stress.setups import Setup
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.process import ProcessAccelerator, place
from coalesced.vmm.drain import Queue
from coalesced.vmm.machine import Machine

_AFTERMATH_MS = 1  # enough to fill a ring, after which the guest waits for an answer
_CPUS = os.sched_getaffinity(0)  # of the parent


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
    vmm = _Vmm(parent)
    if not first.is_reusable:
        return vmm.run(first)
    gc.freeze()
    data = pickle.dumps(first)
    while data:
        vmm.run(pickle.loads(data))
        data = parent.peer.recv(1 << 12)
    return 0


@dataclass(frozen=True)
class _Made:
    """A machine and its guest process."""

    machine: Machine
    accel: ProcessAccelerator
    process: GuestProcess
    sinks: list[Sink]
    notes: GuestMemory

    @classmethod
    def of(cls, setup: Setup, process: GuestProcess, parent: _Parent) -> _Made:
        """Raises CoalescedError."""
        policy = WaitPolicy.named(setup.wait)
        accel = ProcessAccelerator(process, setup.ring_pages, policy, "any", setup.vcpus)
        machine = Machine(accel)
        try:
            return cls(machine, accel, process, *_build(machine, setup, parent))
        except BaseException:
            machine.close()
            raise

    def restart(self, setup: Setup) -> None:
        """Begin anew with the same machine, after the pair before has stopped."""
        assert isinstance(self.process, PlayedGuest)
        cpus = os.sched_getaffinity(0), os.sched_getaffinity(self.process.pid)
        policy = doorbell.effective(WaitPolicy.named(setup.wait), *cpus)
        self.process.restart(policy)
        self.accel.restart(policy)

    def load(self, setup: Setup) -> None:
        """Load the guest of a pair, and set its timers."""
        machine = self.machine
        machine.loop.timers.clear()
        machine.set_staleness(setup.staleness or None)
        if setup.remaps:
            machine.loop.call_every(setup.remaps, lambda: self.sinks[0].remap(machine))
        names = ("seed", "style", "entries", "longest", "bells", "luck", "ring_pages", "rings")
        arguments = {name: getattr(setup, name) for name in names}
        arguments["entries"] = -(-setup.entries // setup.vcpus)  # of each
        self.accel.load_guest("coalesced.tools.stress.guest:write", arguments)

    def run(self) -> None:
        """Run the guest to its end. Raises CoalescedError."""
        # Where a third party writes, an exit may look like a halt.
        while not _done(self.notes, len(self.sinks)):
            self.machine.resume()
        self.machine.flush()

    def stops(self) -> bool:
        """Stop after an error: whether `restart` may follow."""
        if not isinstance(self.process, PlayedGuest):
            return False
        self.process.end()
        # An error amid a change of mappings may have left the sides with different zones.
        return self.process.body is not None and not self.sinks[0].remaps


class _Vmm:
    """The VMM of one pair, or of several, one after the other."""

    def __init__(self, parent: _Parent) -> None:
        self._parent = parent
        self._guests = Guests()
        self._process: GuestProcess | None = None
        self._made: _Made | None = None  # what is left of the pair before

    def run(self, setup: Setup) -> int:
        """Run a pair, from its guest's start to the last message; the exit status."""
        peer, ready = self._parent.peer, False
        if not setup.again:
            self._start_process(setup)
        process = self._process
        assert process is not None
        try:
            _place(setup, process.pid)
            made = self._begin(setup, process)
            _tell(peer, "ready", [] if setup.again else self._guests.kept())
            ready = True
            made.run()
            signals = made.accel.signals()
        except CoalescedError as error:
            if ready and not setup.strict:
                _await_end(process)
            self._tell_error(error, process, ready)
            return 1
        made.machine.close()
        counters = made.machine.counters
        _tell(
            peer,
            "done",
            coalesced=[queue.coalesced for queue in made.machine.queues],
            exits=counters.exits,
            stale_drains=counters.stale_drains,
            signals=signals,
            failures=counters.failures if setup.strict else [],
        )
        return 0

    def _start_process(self, setup: Setup) -> None:
        """Give up the machine of the pair before, and start a guest process."""
        if self._made is not None:
            self._made.machine.close()
            self._made = None
            gc.collect()
        if self._process is not None:
            self._guests.release(self._process)
        self._process = self._guests.start(setup)
        _tell(self._parent.peer, "guest", [self._guests.pidfd])

    def _begin(self, setup: Setup, process: GuestProcess) -> _Made:
        """The machine of a pair, with its guest loaded. Raises CoalescedError."""
        if self._made is None:
            self._made = _Made.of(setup, process, self._parent)
        else:
            self._made.restart(setup)
        self._made.load(setup)
        return self._made

    def _tell_error(self, error: CoalescedError, process: GuestProcess, ready: bool) -> None:
        """Report how a pair ended, and whether the next one may have its machine ("kept")."""
        made, queues = self._made, list[Queue]()
        kept = ready and made is not None and made.stops()
        if made is not None:
            queues = made.machine.queues
            if not kept:
                made.machine.close()
        else:
            process.close()  # what it plays would report its end as that of the next one
        _tell(
            self._parent.peer,
            "error",
            type=type(error).__name__,
            text=str(error),
            coalesced=[queue.coalesced for queue in queues],
            guest_status=process.status,
            kept=kept,
        )


def _place(setup: Setup, guest: int) -> None:
    """Put both sides on CPUs: of each lane the VMM on another one. Raises HostError."""
    if setup.cpus != "any":
        place(guest, setup.cpus, setup.lane, _CPUS)
        return
    try:
        for pid in (0, guest):
            os.sched_setaffinity(pid, _CPUS)  # the pair before may have left it others
    except OSError as error:  # they were taken away just now
        raise HostError(f"--cpus {setup.cpus}: {error.strerror}") from error


def _build(machine: Machine, setup: Setup, parent: _Parent) -> tuple[list[Sink], GuestMemory]:
    """The devices, and the memory of the notes."""
    tally, sinks = parent.tally, list[Sink]()
    numbers = tally.reshape(-1).data  # faster than numpy, one by one

    def proved(vcpu: int, number: int) -> None:
        # A third party may have changed the number on its way.
        numbers[vcpu * COUNTS + Count.proved] = number & (1 << 63) - 1
        os.eventfd_write(parent.proofs, 1)

    groups = [Group(number) for number in range(setup.rings + 1)]
    for vcpu in range(setup.vcpus):
        stream = pattern.stream(setup.seed, setup.style, vcpu)
        checker = Checker(stream, tally[vcpu], setup.strict)
        group = groups[(vcpu + 1) % len(groups)]
        sinks.append(Sink(vcpu, checker, machine.accel.set_irq, proved, group, setup.posted))
        sinks[vcpu].map(machine)
    return sinks, machine.add_ram(guest.NOTES, PAGE_SIZE)


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
