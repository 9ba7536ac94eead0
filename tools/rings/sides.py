"""The two processes of a ring under test, and the memory between guard pages that they share."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from coalesced.hv import core
from coalesced.hv.errors import HostError
from coalesced.tools import termination
from coalesced.tools.rings.control import Control, Word
from coalesced.tools.rings.drivers import USERS, Driver, Job, Missing, driver_of
from coalesced.tools.rings.patience import Patience, state_of
from coalesced.tools.rings.source import Source

PAGE = mmap.PAGESIZE
_CANARY = b"\xc5"
RAISED, UNLOADABLE = 70, 71  # exit statuses beside those of a driver
_READY = {"producer": Word.producer_ready, "consumer": Word.consumer_ready}
_DONE = {"producer": Word.producer_done, "consumer": Word.consumer_done}
_CALLS = {"producer": Word.producer_calls, "consumer": Word.consumer_calls}
_CALLS_OF_A_SECOND = 1000  # this many completed calls show as much as a second of CPU time
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ring:
    """A ring: the user's, or one of the product's own by number."""

    name: str
    size: Callable[[int], int]  # bytes by entries
    source: Source | None = None
    number: int = USERS
    most: int = 1 << 32  # entries that it can hold

    @property
    def in_python(self) -> bool:
        """Whether it is a Python class."""
        return self.source is not None and bool(self.source.class_name)

    def driver(self) -> Driver:
        """Raises Missing."""
        return driver_of(self.number, self.source)


class Memory:
    """Shared memory without a name: before and behind it lie pages that nobody may touch."""

    def __init__(self, size: int) -> None:
        inner = -(-size // PAGE) * PAGE
        self._map = mmap.mmap(-1, inner + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for guard in (start, start + PAGE + inner):
            _LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0)
        begin = PAGE + (inner - size) // 64 * 64
        self.bytes = memoryview(self._map)[begin : begin + size]
        self._behind = memoryview(self._map)[begin + size : PAGE + inner]
        self._behind[:] = _CANARY * len(self._behind)

    def overrun(self) -> bool:
        """Whether something was written between its end and the page that nobody may touch."""
        return self._behind != _CANARY * len(self._behind)


class Child:
    """A forked process that runs a function; its stderr is kept."""

    def __init__(self, run: Callable[[], int], cpu: int = -1) -> None:
        self._errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self.pid = os.fork()
            if not self.pid:
                _become(run, cpu, parent, self._errors)
        except OSError as error:
            raise HostError(f"no process for a side of the ring: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.status: int | None = None  # as of os.waitstatus_to_exitcode

    def ended(self) -> bool:
        """Whether it has ended; `status` says how."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def await_end(self) -> bool:
        """Whether it ends by itself, and does not hang."""
        patience = Patience(lambda: [self.pid])
        while not self.ended():
            if patience.over():
                return False
            time.sleep(0.0002)
        return True

    def kill(self) -> None:
        """End it and reap it."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def last_line(self) -> str:
        """The last line on its stderr."""
        lines = os.pread(self._errors, 1 << 16, 0).decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Kill it and release everything."""
        self.kill()
        os.close(self._errors)

    def how(self) -> str:
        """Its end in words, if it did not end by itself and well."""
        if self.status is not None and self.status < 0:
            return f"crashed ({signal.Signals(-self.status).name})"
        return f"failed: {self.last_line() or f'exit status {self.status}'}"


def _become(run: Callable[[], int], cpu: int, parent: int, errors: int) -> None:
    status = RAISED
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        termination.let_go()
        faulthandler.disable()  # the parent says how a side crashed
        null = os.open(os.devnull, os.O_RDWR)
        for fd, to in ((null, 0), (null, 1), (errors, 2)):
            os.dup2(fd, to)
        if core.die_with_parent() == parent:
            if cpu >= 0:
                os.sched_setaffinity(0, {cpu})
            status = run()
    except Missing as error:
        status = UNLOADABLE
        os.write(2, str(error).encode())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        os._exit(status)


class Pair:
    """A ring with a producer and a consumer, each started, killed and replaced at will."""

    def __init__(self, ring: Ring, job: Job) -> None:
        """Set the ring up; `trouble` says when that failed."""
        self.ring, self.job = ring, job
        self.memory, self.control = Memory(ring.size(job.entries)), Control()
        self.sides: dict[str, Child] = {}
        setup = Child(self._set_up)
        self._unusable = "" if setup.await_end() else "init does not return"
        if not self._unusable and setup.status:
            self._unusable = f"init {setup.how()}"
        setup.close()

    def _set_up(self) -> int:
        if answer := self.ring.driver().call("init", self.memory.bytes, self.job.entries):
            raise Missing(f"it answered {answer}")
        return 0

    def start(self, side: str, point: tuple[str, int] | None = None) -> None:
        """Start 'producer' or 'consumer'; it dies at the point when it passes it the n-th time."""
        self.control[_READY[side]] = self.control[_DONE[side]] = 0
        producer = side == "producer"
        self.sides[side] = Child(lambda: self._run(side, point), self.job.cpus[not producer])

    def _run(self, side: str, point: tuple[str, int] | None) -> int:
        driver, control = self.ring.driver(), self.control
        producer = side == "producer"
        if answer := driver.call("attach", self.memory.bytes, producer):
            raise Missing(f"attach answered {answer}")
        if point is not None:
            driver.arm(*point)
        control[_READY[side]] = 1
        while not control[Word.go]:
            os.sched_yield()
        status = driver.run(producer, self.memory.bytes, control, self.job)
        control[_DONE[side]] = 1
        return status

    def patience(self) -> Patience:
        """Begins now, and ends when neither side moves though it could.

        A side whose calls return could: one that yields to a spinner on its CPU uses hardly any.
        """

        def state(pid: int) -> tuple[int, str, float]:
            _, letter, used = state_of(pid)
            side = next((side for side, child in self.sides.items() if child.pid == pid), None)
            calls = self.control[_CALLS[side]] if side else 0
            return pid, letter, used + calls / _CALLS_OF_A_SECOND

        def pids() -> list[int]:
            return [child.pid for child in self.sides.values() if not child.ended()]

        return Patience(pids, state=state)

    def go(self) -> bool:
        """Start both, and let them go at once; False when one does not get ready."""
        if self._unusable:
            return False
        for side in ("producer", "consumer"):
            self.start(side)
        patience, control = self.patience(), self.control
        while not (control[Word.producer_ready] and control[Word.consumer_ready]):
            if any(c.ended() for c in self.sides.values()) or patience.over():
                return False
            time.sleep(0.0002)
        control[Word.go] = 1
        return True

    def trouble(self) -> str:
        """The end of a side that should not have ended; '' if none did."""
        if self._unusable:
            return self._unusable
        for side, child in self.sides.items():
            if child.ended() and child.status != -signal.SIGKILL:
                call = "push" if side == "producer" else "pop"
                if child.status == 0 and self.control[_DONE[side]]:
                    continue
                if child.status == 0:
                    return f"{call} ended its process"
                if child.status == 1:
                    return f"{call} refused memory that nobody else had written"
                if child.status == 2:
                    return f"{call} answered a number that it cannot have"
                return f"{call} {child.how()}"
        return ""

    def close(self) -> None:
        """End both sides."""
        for child in self.sides.values():
            with suppress(ChildProcessError):
                child.close()
        self.sides.clear()
        sys.stderr.flush()
