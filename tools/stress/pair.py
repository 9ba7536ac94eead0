"""A VMM and its guest as seen by their parent, which can outlive both."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import select
import signal
import socket
import stat
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import ring_slots
from coalesced.hv.errors import HostError
from coalesced.tools.rings.patience import Patience
from coalesced.tools.stress import bodies, guest, intrusions, pattern, worker
from coalesced.tools.stress.checker import COUNTS, Checker, Count
from coalesced.tools.stress.pattern import Style
from coalesced.tools.stress.segments import Segments, Write
from coalesced.tools.stress.setups import Setup

_FINISH = 1.0  # seconds, after which they are killed
PATIENCE = 20.0  # seconds; on an idle machine everything takes milliseconds
_SIDES = ("vmm", "hv")
_FDS = 32  # of a message at most
_PAIRS_EACH = 100  # that the same processes run, one after the other
_PAIRS_OF_A_MACHINE = 20  # at most

Message = dict[str, Any]

# Texts of errors that come from a limit on processes, memory, shared memory or open files.
_NO_ROOM = (
    "[Errno 11]",
    "[Errno 12]",
    "[Errno 23]",
    "[Errno 24]",
    "MemoryError",
    "open files",
    "no room for ",
)


class Kept(NamedTuple):
    """The machine of a pair that has stopped, for the next one."""

    setup: Setup  # of the last pair
    pairs: int  # so far
    segments: Segments
    guest_pidfd: int

    def fit(self, setup: Setup) -> Setup:
        """The setup, as one of this machine."""
        pages = self.setup.ring_pages
        start, posted = setup.start % ring_slots(pages), self.setup.posted
        return replace(setup, ring_pages=pages, start=start, posted=posted, again=True)

    def close(self) -> None:
        """Release it."""
        self.segments.close()
        os.close(self.guest_pidfd)


class Processes:
    """A VMM's process, whose child plays the guests, and what their parent shares with it."""

    def __init__(self, setup: Setup) -> None:
        """Start them, with this setup as their first."""
        for style in Style:  # made once: processes that are forked have them
            for vcpu in range(setup.vcpus):
                pattern.stream(setup.seed, style, vcpu)
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        counts = np.frombuffer(self._memory, np.int64, setup.vcpus * COUNTS)
        self.tally: NDArray[np.int64] = counts.reshape(setup.vcpus, COUNTS)
        # The same as plain numbers: numpy takes longer for one than a proof does.
        self.numbers = memoryview(self._memory).cast("q")
        self.errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
        self.proofs = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pid, self.socket = worker.fork(setup, self.tally, self.errors, self.proofs)
        self.pidfd = os.pidfd_open(self.pid)
        self.pairs = 1
        self.kept: Kept | None = None

    def start(self, setup: Setup) -> None:
        """Let them run another pair, after one that has ended and was not strict."""
        self.pairs += 1
        self.tally[:] = 0
        if setup.again:
            assert self.kept is not None
            intrusions.clear(self.kept.segments.channels)
            self.kept.segments.renew(setup.start)
        else:
            self.give_up_machine()
        self.socket.send(pickle.dumps(setup))

    def give_up_machine(self) -> None:
        """Release everything kept for another pair."""
        if self.kept is not None:
            self.kept.close()
            self.kept = None

    def close(self) -> None:
        """Kill and reap the processes, and release everything."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self._reap()
        self.give_up_machine()
        for fd in (self.pidfd, self.errors, self.proofs):
            os.close(fd)
        self.socket.close()

    def _reap(self) -> None:
        """Wait for all of the process group, and for no other child of this process."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                time.sleep(0.0005)  # it becomes our child as soon as its parent has ended
        raise TimeoutError("a process of a stressed pair does not end")


class Warm:
    """The processes of the last pairs, for the next ones: of honest ones, and of those that lie.

    After some pairs they are replaced, so that what a corruption may have left in a process is not
    blamed on a much later one.
    """

    def __init__(self) -> None:
        self._idle: dict[bool, Processes] = {}  # by whether a side lies

    def fit(self, setup: Setup) -> Setup:
        """The setup, changed to use the machine of the pair before, where there is one."""
        idle = self._idle.get(False)
        if setup.lie is not None or idle is None or idle.kept is None:
            return setup
        return idle.kept.fit(setup)

    def take(self, setup: Setup) -> Processes:
        """Processes that run the setup."""
        processes = self._idle.pop(setup.lie is not None, None)
        if processes is None:
            return Processes(setup)
        processes.start(setup)
        return processes

    def give_back(self, processes: Processes, setup: Setup) -> None:
        """Keep the processes of a pair that has ended."""
        self._idle[setup.lie is not None] = processes

    def close(self) -> None:
        """End them."""
        while self._idle:
            self._idle.popitem()[1].close()


class Pair:
    """Two running processes, their segments and their tally.

    The parent is the reaper of all that they start: a guest process that outlives its VMM becomes
    its child.
    """

    def __init__(self, setup: Setup, warm: Warm | None = None) -> None:
        """Start a pair, with the processes of an earlier one if `warm` has some."""
        self.setup = setup
        self._warm = warm
        self._processes = processes = warm.take(setup) if warm else Processes(setup)
        self.tally = processes.tally
        self.checkers = [
            Checker(pattern.stream(setup.seed, setup.style, vcpu), self.tally[vcpu])
            for vcpu in range(setup.vcpus)
        ]
        self.segments: Segments | None = None
        self._kept, processes.kept = processes.kept, None
        self.guest_pidfd = self._kept.guest_pidfd if self._kept else -1
        self.sound = True  # what it leaves may go to another pair
        self.last: Message = {}  # "done" or "error", when it has come
        self._errors = processes.errors
        self._said_before = os.fstat(self._errors).st_size
        self.pid, self.pidfd, self._socket = processes.pid, processes.pidfd, processes.socket
        self._proofs = processes.proofs
        self._news = select.poll()
        for fd in (self._socket.fileno(), self._proofs):
            self._news.register(fd, select.POLLIN)

    # --- messages of the VMM ---

    def wait(self, kind: str, seconds: float = PATIENCE) -> bool:
        """Wait for a message of that kind, "last" being "done" or "error"; False without it.

        The end of the VMM, and a last message, end every wait.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            got = self.hear(left)
            if got is None:
                return False
            if self.last or got.get("kind") == kind:
                return kind in ("last", got.get("kind"))
        return False

    def hear(self, seconds: float) -> Message | None:
        """The next message, or that a proof has ended; {} when none comes in time, None after the
        VMM's end."""
        ready = self._news.poll(max(0.0, seconds) * 1000)
        if not ready:
            return {}
        said = self._socket.fileno()
        if all(fd != said for fd, _ in ready):
            os.eventfd_read(self._proofs)
            return {"kind": "proved"}
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, _FDS)
        except ConnectionResetError:
            return None
        if not data:
            return None
        message: Message = json.loads(data)
        if message["kind"] == "guest":
            (self.guest_pidfd,) = fds
        elif message["kind"] == "ready":
            self.segments = self._kept.segments if self._kept else self._segments(fds)
        else:
            self.last = message
        return message

    def _segments(self, fds: list[int]) -> Segments:
        """The segments that the VMM sent: ring, run segments, own rings, notes; the channels, and
        the eventfds. Of a side that lies fewer own rings may have come than there are."""
        kinds = {fd: stat.S_IFMT(os.fstat(fd).st_mode) for fd in fds}
        ring, run, *more = (fd for fd in fds if kinds[fd] == stat.S_IFREG)
        others, (*own, notes) = more[: self.setup.vcpus - 1], more[self.setup.vcpus - 1 :]
        channels = tuple(fd for fd in fds if kinds[fd] in (stat.S_IFIFO, stat.S_IFSOCK))
        events = tuple(fd for fd in fds if not kinds[fd])
        return Segments(ring, run, notes, channels, tuple(others), tuple(own), events)

    def ask(self) -> int:
        """Ask each vCPU's guest for a proof that both sides go on; its number."""
        assert self.segments is not None
        number = self.segments.note(guest.ASKED) + 1
        for vcpu in range(len(self.segments.runs)):
            self.segments.leave_note(guest.ASKED, number, vcpu)
        return number

    @property
    def proved(self) -> int:
        """Number of the last proof that all vCPUs have ended."""
        numbers = self._processes.numbers
        return min(numbers[i * COUNTS + Count.proved] for i in range(self.setup.vcpus))

    def stop(self) -> None:
        """Tell the guest to end after its burst."""
        assert self.segments is not None
        self.segments.leave_note(guest.STOP, 1)

    def finish(self) -> None:
        """End a pair that still runs, so that its processes, kept warm, can run the next one."""
        if self._warm is not None and self.segments is not None and not self.last:
            self.signal("hv", bodies.END)
            self.wait("last", _FINISH)

    # --- signals ---

    def signal(self, side: str, number: int) -> None:
        """Send a signal to 'vmm' or 'hv'; ignore a process that has already ended."""
        pidfd = self.pidfd if side == "vmm" else self.guest_pidfd
        if pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)

    def ended(self, side: str, seconds: float = 0) -> bool:
        """Whether a side ends within `seconds`; one that never started has ended."""
        pidfd = self.pidfd if side == "vmm" else self.guest_pidfd
        if pidfd < 0:
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def patience(self) -> Patience:
        """Begins now, and ends when neither side moves though it could."""
        return Patience(lambda: [self.pid, *_process_of(self.guest_pidfd)])

    # --- the end ---

    def drain(self) -> int:
        """After both sides have ended, check [first, last) and the unanswered exits.

        Returns the number of entries of the streams. Raises ValueError when an index is no
        slot.
        """
        assert self.segments is not None
        before = int(self.tally[:, Count.next].sum())
        batch = self.segments.published()[["pio", "phys_addr", "len", "data"]].tolist()
        entries = [Write(bool(pio), *rest) for pio, *rest in batch]
        for vcpu, checker in enumerate(self.checkers):
            own = [entry for entry in entries if self._vcpu_of(entry) == vcpu]
            checker.allow_again(len(own))
            for entry in own:
                if entry.pio or entry.address < pattern.BELL:
                    checker.one(*entry)
            pending = self.segments.pending_exit(vcpu)
            if pending is not None and (pending.pio or pending.address < pattern.PROBE):
                # The device may have had this one, too, and the answer not gone out.
                checker.allow_again(1)
                checker.one(*pending)
        return int(self.tally[:, Count.next].sum()) - before

    def wrong_indices(self) -> str:
        """A ring whose indices do not fit the entries that the VMM reports; empty without one."""
        assert self.segments is not None
        starts = [self.setup.start, *[0] * self.setup.rings]
        found = self.segments.all_indices()
        for start, count, indices in zip(starts, self.last["coalesced"], found, strict=True):
            at = (start + int(count)) % self.segments.slots
            if indices != (at, at):
                return f"indices {indices}, expected both at {at}"
        return ""

    def _vcpu_of(self, entry: Write) -> int:
        """The vCPU that wrote an entry; one with a wrong address is somebody's, too."""
        return min(pattern.vcpu_of(entry.pio, entry.address), self.setup.vcpus - 1)

    def starts(self) -> bool:
        """Wait until it is ready; False when it does not start.

        Raises HostError when the machine's limits prevent it, which is no fault of the ring.
        """
        if self.wait("ready"):
            return True
        said = f"{self.last.get('type', '')} {self.last.get('text', '')} {self.errors()}".strip()
        if any(mark in said for mark in _NO_ROOM):
            raise HostError(f"a pair of processes does not start: {said}")
        return False

    def errors(self) -> str:
        """The last line that either side wrote to stderr."""
        size = os.fstat(self._errors).st_size
        start = max(self._said_before, size - 4096)
        text = os.pread(self._errors, 4096, start).decode(errors="replace")
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

    def exit_status(self, side: str) -> int:
        """The exit code of a side that has ended, as of os.waitstatus_to_exitcode."""
        pidfd = self.pidfd if side == "vmm" else self.guest_pidfd
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        assert info is not None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def close(self) -> None:
        """Kill and reap the processes, unless they can run another pair; release everything."""
        over = bool(self.last) and not self.ended("vmm")
        if self._warm is not None and over and self._processes.pairs < _PAIRS_EACH:
            self._warm.give_back(self._processes, self.setup)
            if self._leave_machine():
                return
        else:
            self.signal("hv", signal.SIGKILL)
            self._processes.close()
        segments = self._kept.segments if self._kept else self.segments
        if segments is not None:
            segments.close()
        if self.guest_pidfd >= 0:
            os.close(self.guest_pidfd)

    def _leave_machine(self) -> bool:
        """Leave the machine to the next pair, if it may have it."""
        pairs = self._kept.pairs + 1 if self._kept else 1
        segments = self.segments
        if segments is None or not self.last.get("kept") or not segments.whole():
            return False
        if not self.sound or pairs >= _PAIRS_OF_A_MACHINE:
            return False
        self._processes.kept = Kept(self.setup, pairs, segments, self.guest_pidfd)
        return True


def _process_of(pidfd: int) -> list[int]:
    """The process id of a pidfd, if its process still runs."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            found = next(line for line in file if line.startswith("Pid:"))
    except (OSError, StopIteration):
        return []
    pid = int(found.split()[1])
    return [pid] if pid > 0 else []
