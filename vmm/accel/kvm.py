"""Accelerator `kvm`: the real KVM runs the guest and fills the ring.

The guest is machine code that repeats the recorded accesses of the guest function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import abi
from coalesced.hv.client import Memory
from coalesced.hv.errors import HostError
from coalesced.vmm.accel.kvm_base import KvmBase
from coalesced.vmm.accel.recording import MemoryAccess, Recording
from coalesced.vmm.accel.x86 import Program, assemble

Recorder = Callable[[str, Mapping[str, object]], Recording]

PLACES = (0x1000_0000, 0xFEC0_0000)  # where the program may lie


class KvmAccelerator(KvmBase):
    """A VM of this machine's KVM, whose guest is a recording as machine code."""

    def __init__(self, record: Recorder, places: tuple[int, int] = PLACES) -> None:
        """`record(guest, arguments)` records that guest on this machine. Raises KvmUnusable.

        `places`: the first and last address between which the program may lie.
        """
        self._record = record
        self._places = places
        self._program: Program | None = None
        self._program_memory: Memory | None = None
        super().__init__()

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
