"""Accelerator `process`: the guest in a process of its own, behind a ring and an exit page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from coalesced.hv import abi, core, doorbell
from coalesced.hv.client import Vm, ZoneChange
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import HostError, ProtocolError
from coalesced.hv.outcome import Outcome
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.shared import SharedSlots
from coalesced.vmm.exits import Exits
from coalesced.vmm.loop import Loop


def place(pid: int, cpus: str, first: int = 0, among: set[int] | None = None) -> set[int] | None:
    """Put this process and the guest's on CPUs: 'same' one, 'split' over two, or 'any'.

    `first`: index of the CPU that this process gets, modulo their number; 'split' gives the guest
    the next one. `among`: the CPUs; None: those of this process. Returns the CPUs of this process,
    None where nothing was changed. Raises HostError when 'split' finds a single CPU.
    """
    if cpus == "any":
        return None
    available = sorted(os.sched_getaffinity(0) if among is None else among)
    if cpus == "split" and len(available) < 2:
        raise HostError("--cpus split: expected two CPUs to run on, got one")
    ours, theirs = (available[(first + at) % len(available)] for at in range(2))
    try:
        os.sched_setaffinity(0, {ours})
        os.sched_setaffinity(pid, {ours if cpus == "same" else theirs})
    except OSError as error:  # they were taken away just now
        raise HostError(f"--cpus {cpus}: CPU {ours}, {theirs}: {error.strerror}") from error
    return {ours}


def put_back(placed: set[int] | None, before: set[int]) -> None:
    """Give this process its CPUs back, unless somebody else has given it others meanwhile."""
    if placed is not None and os.sched_getaffinity(0) == placed:
        with suppress(OSError):  # none of them is left, in a cpuset that has shrunk
            os.sched_setaffinity(0, before)


class ProcessAccelerator(SharedSlots):
    """Two processes and a ring between them. The guest process is this object's to end."""

    name = "process"
    posted = True

    def __init__(
        self,
        process: GuestProcess,
        ring_pages: int = 1,
        policy: WaitPolicy = WaitPolicy.ADAPTIVE,
        cpus: str = "any",
        vcpus: int = 1,
        reserve: bool = True,
    ) -> None:
        """Create the VM and 1 to 8 vCPUs. `ring_pages` 0: a kernel without coalesced I/O.

        `reserve` False: guest RAM takes memory only where it is used, and a start takes as long for
        any size of it; a full /dev/shm is then a SegmentError of the run. Raises HostError,
        PeerDied, RequestError (vCPUs), ValueError (ring size).
        """
        self._affinity = os.sched_getaffinity(0)
        self._ring_pages = ring_pages
        self._placed: set[int] | None = None
        self.pid: int | None = process.pid
        self._process = process
        try:
            self._placed = place(process.pid, cpus)
            policy = doorbell.effective(
                policy, os.sched_getaffinity(0), os.sched_getaffinity(process.pid)
            )
            self._vm = Vm(process, ring_pages, policy, reserve)
            super().__init__(self._vm)
            self.coalesced_mmio = self._vm.check_extension(abi.KVM_CAP_COALESCED_MMIO) != 0
            self.coalesced_pio = self._vm.check_extension(abi.KVM_CAP_COALESCED_PIO) != 0
            first = self._vm.create_vcpu()
            for _ in range(1, vcpus):
                self._vm.create_vcpu()
        except BaseException:
            self.close()
            raise
        self.ring = first.ring
        self.handle = first.handle
        """Of the first vCPU: a guest that is machine code has no other one."""
        self._vcpus = self._vm.all_vcpus()
        self._watch = core.KEEP_WRITES | (core.WATCH_RING if policy is WaitPolicy.POLL else 0)
        self._watching = False
        self.exits: Exits | None = None
        self._run = self._vcpus.run
        self.pause = self._vcpus.pause
        self.complete = self._vcpus.complete
        self.enter = self._vcpus.enter
        self.park = self._vcpus.park
        self.interrupt_window = self.handle.interrupt_window
        self.interrupt = self.handle.interrupt
        self.reset = self.handle.reset
        self.note_written = self.handle.note_written

    def set_irq(self, line: int, level: bool) -> None:
        self._vm.irq_line(line, level)

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        self._vm.load_guest(guest, arguments)

    def change_coalesced(self, change: ZoneChange) -> int:
        if change.posted:
            self._watch |= core.WATCH_POSTED | (core.POSTED_APART if change.buffer else 0)
        return super().change_coalesced(change)

    def create_ring(self) -> OwnRing | None:
        if not self._vm.check_extension(abi.KVM_CAP_COALESCED_MMIO2):
            return None
        return self._vm.create_coalesced_buffer(self._ring_pages)

    def attach(self, bus: MachineBus) -> None:
        """Nothing to do: every access of the guest comes as an exit or through the ring."""

    def run(self, loop: Loop) -> Outcome:
        if loop.watching is not self._watching:
            self._watching = loop.watching
            self.handle.watch(loop.fileno())
            self._watch ^= core.WATCH_DESCRIPTOR
        if self.exits is not None:
            return self._vcpus.carry_out(self.exits.run, self._watch)
        timers = loop.timers
        run = self._run  # the interpreter calls a name faster than an instance's attribute
        return run(None, self._watch, timers[0][0] if timers else None)

    def guest_error(self) -> Exception:
        return self._vm.guest_error()

    def where(self) -> str:
        """File and line of the guest, which must be ended afterwards; empty without an answer."""
        return self._vm.where()

    def is_resetting(self) -> bool:
        return self.handle.resetting

    def check_alive(self) -> None:
        if not self._process.is_alive():
            raise self._vm.died()

    def first_operation(self) -> int:
        begun = [vcpu.handle.first_operation for vcpu in self._vm.vcpus]
        first, now = min(filter(None, begun), default=0), time.monotonic_ns()
        if first > now:
            raise ProtocolError(f"run page: first operation at {first}, and it is {now} ns now")
        return first

    def signals(self) -> int:
        ours = sum(vcpu.handle.signals for vcpu in self._vm.vcpus)
        return self._vm.statistics().signals + ours

    def restart(self, policy: WaitPolicy) -> None:
        """Begin anew beside a guest process that restarts its only vCPU, too; zones and RAM stay.

        Both have stopped, the run segment is zeroed, and the ring's indices are where it begins.
        A guest is loaded after this. Raises ProtocolError when an index is no slot.
        """
        self._vm.restart(policy)
        self._watch &= ~core.WATCH_RING
        if policy is WaitPolicy.POLL:
            self._watch |= core.WATCH_RING

    def put_cpus_back(self) -> None:
        """Let this process run where it could before `cpus` placed it; the guest's stays there."""
        put_back(self._placed, self._affinity)
        self._placed = None

    def close(self) -> None:
        vm = getattr(self, "_vm", None)
        (self._process if vm is None else vm).close()
        self.put_cpus_back()
