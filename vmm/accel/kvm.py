"""Accelerator `kvm`: the real KVM runs the guest and fills the ring.

The guest is machine code that repeats the recorded accesses of the guest function, on each vCPU
those that it made there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import abi
from coalesced.hv.errors import HostError
from coalesced.hv.shm import Memory
from coalesced.vmm.accel.kvm_base import KvmBase
from coalesced.vmm.accel.recording import MemoryAccess, Recording
from coalesced.vmm.accel.x86 import Program, assemble

Recorder = Callable[[str, Mapping[str, object]], Sequence[Recording]]
"""Records a guest, called with its name and arguments: a recording for each vCPU."""

_STACK = 256  # bytes of stack for each vCPU, at the end of code that all of them run
PLACES = (0x1000_0000, 0xFEC0_0000)  # where the programs may lie


class KvmAccelerator(KvmBase):
    """A VM of this machine's KVM, whose guest is a recording as machine code."""

    def __init__(self, record: Recorder, places: tuple[int, int] = PLACES, vcpus: int = 1) -> None:
        """`record(guest, arguments)` records that guest on this machine, each vCPU of `vcpus`.

        `places`: the first and last address between which the programs may lie. Raises KvmUnusable,
        HostError, RequestError (vCPUs).
        """
        self._record = record
        self._places = places
        self._loaded: list[_Loaded] = []
        super().__init__(vcpus)

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        """Record a guest and load the program. Raises what recording raises, GuestError for an
        address of 4 GiB or more."""
        recordings = self._record(guest, arguments)
        programs = [assemble(recording) for recording in recordings]
        self._vcpus.restart()
        self._loaded = []
        for index, (vcpu, program) in enumerate(zip(self._vm.vcpus, programs, strict=True)):
            base = self._place(program, recordings)
            memory = self._add_code(program.at(base), base, program.size)
            vcpu.start_at(base, base + memory.size, index)
            self._loaded.append(_Loaded(program, memory))

    def load_code(self, code: bytes, base: int, size: int = 0) -> Memory:
        """Put machine code into a slot of its own at `base`, and have all vCPUs start there.

        The slot has whole pages, `size` bytes at least. A vCPU finds its index in eax; the stack of
        each next one begins 256 bytes below.
        """
        self._vcpus.restart()
        memory = self._add_code(code, base, size)
        for index, vcpu in enumerate(self._vm.vcpus):
            vcpu.start_at(base, base + memory.size - _STACK * index, index)
        return memory

    def _add_code(self, code: bytes, base: int, size: int) -> Memory:
        length = -(-max(len(code), size, 1) // abi.PAGE_SIZE) * abi.PAGE_SIZE
        memory = self.add_slot(base, length)
        memory.mapping.write(0, code)
        return memory

    def loads(self) -> tuple[NDArray[np.void], NDArray[np.uint64]]:
        """The guest's loads and ins as recorded (`hv.abi.OP`), and their values in this run.

        Those of the first vCPU first. After the guest has halted.
        """
        recorded = [each.program.loads for each in self._loaded]
        got = [each.program.loaded(each.results()) for each in self._loaded]
        return np.concatenate(recorded), np.concatenate(got)

    def differing_copies(self) -> int:
        """Bytes of `read_memory` that differ from the recording, after the guest has halted."""
        return sum(each.differing_copies() for each in self._loaded)

    def _place(self, program: Program, recordings: Sequence[Recording]) -> int:
        """The lowest hole between RAM and what the guest touches that takes the program."""
        taken = [(memory.start, memory.start + memory.size) for memory in self._vm.memory.values()]
        for step in chain.from_iterable(recording.steps for recording in recordings):
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


@dataclass(frozen=True)
class _Loaded:
    """A vCPU's program, and the memory that it lies in."""

    program: Program
    memory: Memory

    def results(self) -> bytes:
        program = self.program
        return self.memory.mapping.read(program.results_at, len(program.results))

    def differing_copies(self) -> int:
        program = self.program
        got, recorded = (np.frombuffer(b, np.uint8) for b in (self.results(), program.results))
        different = got != recorded
        sizes = program.loads["size"].astype(np.int64)
        for byte in range(8):
            different[program.places[sizes > byte] + byte] = False
        return int(different.sum())
