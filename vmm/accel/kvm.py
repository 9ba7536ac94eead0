"""Accelerator `kvm`: the real KVM runs the guest and fills the ring.

The guest is machine code that repeats the recorded accesses of the guest function. The vCPU runs in
this thread, inside `run` alone: the ring is drained, zones move and devices are read only while the
vCPU is outside KVM_RUN. Kernels before 6.12, whose full check lets a ring overrun that is
drained under a running vCPU, lose nothing that way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import abi
from coalesced.hv.client import Memory
from coalesced.hv.errors import HostError
from coalesced.hv.kvm import KvmVm
from coalesced.hv.outcome import Event, Exit, Outcome
from coalesced.hv.ring import Consumer
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.recording import MemoryAccess, Recording
from coalesced.vmm.accel.shared import SharedSlots
from coalesced.vmm.accel.x86 import Program, assemble
from coalesced.vmm.loop import Loop

Recorder = Callable[[str, Mapping[str, object]], Recording]

_LOOK_EVERY = 0.01  # seconds after which descriptors are looked at while the guest does not exit
_HELD_UP = 50e-6  # how often exits that keep coming are held up for a look at them
_OF_DEVICES = (abi.KVM_EXIT_MMIO, abi.KVM_EXIT_IO, abi.KVM_EXIT_HLT, abi.KVM_EXIT_INTR)
_LOST: Exit = (abi.KVM_EXIT_SYSTEM_EVENT, 0, 0, False, 0)
PLACES = (0x1000_0000, 0xFEC0_0000)  # where the program may lie


class KvmAccelerator(SharedSlots):
    """A VM of this machine's KVM."""

    name = "kvm"
    pid: int | None = None

    def __init__(self, record: Recorder, places: tuple[int, int] = PLACES) -> None:
        """`record(guest, arguments)` records that guest on this machine. Raises KvmUnusable.

        `places`: the first and last address between which the program may lie.
        """
        self._record = record
        self._places = places
        self._vm = KvmVm()
        super().__init__(self._vm)
        try:
            self.vcpu = self._vm.create_vcpu()
        except BaseException:
            self._vm.close()
            raise
        self.ring: Consumer | None = self.vcpu.ring
        self.coalesced_mmio = True
        self.coalesced_pio = self._vm.capabilities.coalesced_pio
        self._run = self.vcpu.run
        self.complete = self.vcpu.complete
        self.enter = self.vcpu.enter
        self.vcpu.handle.keep_writes()
        self._had_turn = False  # a due timer was reported since the guest ran
        self._look_at = 0.0
        self._first_operation = 0
        self._left_by = 0  # the exit reason that ended the guest
        self._program: Program | None = None
        self._program_memory: Memory | None = None

    def set_irq(self, line: int, level: bool) -> None:
        """Nothing to do: a recorded guest waits for no interrupt."""

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        """Record a guest and load what it does. Raises what recording raises, GuestError for an
        address of 4 GiB or more."""
        recording = self._record(guest, arguments)
        program = assemble(recording)
        base = self._place(program, recording)
        self._program = program
        self._program_memory = self.load_code(program.at(base), base, program.size)

    def load_code(self, code: bytes, base: int, size: int = 0) -> Memory:
        """Put machine code into a slot of its own at `base`, and have the vCPU start there.

        The slot has whole pages, `size` bytes at least.
        """
        length = -(-max(len(code), size, 1) // abi.PAGE_SIZE) * abi.PAGE_SIZE
        memory = self.add_slot(base, length)
        memory.mapping.write(0, code)
        self.vcpu.start_at(base, base + length)
        return memory

    def attach(self, bus: MachineBus) -> None:
        """Nothing to do: every access of the guest comes as an exit or through the ring."""

    def pause(self) -> None:
        """Nothing to do: while the machine's own code runs, the guest does not."""

    def run(self, loop: Loop) -> Outcome:
        if not self._first_operation:
            self._first_operation = time.monotonic_ns()
        timeout = None
        if loop.timers or loop.watching:
            timeout = self._turn(loop)
            if timeout is None:
                return Event.TIMED_OUT
        got = self._run(timeout)
        self._had_turn = False
        if isinstance(got, Event) or got[0] in _OF_DEVICES:
            return got
        self._left_by = got[0]
        return _LOST

    def guest_error(self) -> Exception:
        return self.vcpu.why_left(self._left_by)

    def first_operation(self) -> int:
        return self._first_operation

    def signals(self) -> int:
        return 0

    def loads(self) -> tuple[NDArray[np.void], NDArray[np.uint64]]:
        """The guest's loads and ins as recorded (`hv.abi.OP`), and their values in this run.

        After the guest has halted.
        """
        assert self._program is not None
        return self._program.loads, self._program.loaded(self._results())

    def differing_copies(self) -> int:
        """Bytes of `read_memory` that differ from the recording, after the guest has halted."""
        assert self._program is not None
        program = self._program
        got, recorded = (np.frombuffer(b, np.uint8) for b in (self._results(), program.results))
        different = got != recorded
        sizes = program.loads["size"].astype(np.int64)
        for byte in range(8):
            different[program.places[sizes > byte] + byte] = False
        return int(different.sum())

    def close(self) -> None:
        self._vm.close()

    def _turn(self, loop: Loop) -> float | None:
        """Serve descriptors now and then; how long the guest may run. None: a timer is due.

        The guest has its turn before the next one of these.
        """
        now = time.monotonic()
        timeout = loop.timers[0][0] - now if loop.timers else _LOOK_EVERY
        if timeout <= 0 and not self._had_turn:
            self._had_turn = True
            return None
        if loop.watching:
            timeout = min(timeout, _LOOK_EVERY)
            if now >= self._look_at:
                loop.serve()
                self._look_at = now + _HELD_UP
        return max(timeout, 0.0)

    def _place(self, program: Program, recording: Recording) -> int:
        """The lowest hole between RAM and what the guest touches that takes the program."""
        taken = [(memory.start, memory.start + memory.size) for memory in self._vm.memory.values()]
        for step in recording.steps:
            if isinstance(step, MemoryAccess):
                continue  # RAM
            pages = np.unique(step["address"] // abi.PAGE_SIZE) * abi.PAGE_SIZE
            # The page behind as well: an access may reach into it.
            taken += [(page, page + 2 * abi.PAGE_SIZE) for page in pages.tolist()]
        base, top = self._places
        for start, end in sorted(taken):
            if start >= base + program.size:
                break
            base = max(base, end)
        if base + program.size > top:
            raise HostError(
                f"no place for a program of {program.size} bytes between RAM and devices below "
                f"{top:#x}"
            )
        return base

    def _results(self) -> bytes:
        assert self._program is not None
        assert self._program_memory is not None
        program = self._program
        return self._program_memory.mapping.read(program.results_at, len(program.results))
