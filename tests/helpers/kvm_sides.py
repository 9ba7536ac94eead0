"""The same program on the emulated kernel and on this machine's own: every exit, every drain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from coalesced.hv import abi, client
from coalesced.hv.abi import OP
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import KvmUnusable, ProtocolError
from coalesced.hv.kvm import KvmVm, capabilities, check_several
from coalesced.hv.outcome import Exit
from coalesced.hv.process import GuestProcess
from coalesced.hv.ring import Consumer
from coalesced.hv.vcpu import Vcpu
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.accel.x86 import assemble

RAM, RAM_SIZE = 0x10000, 0x3000
PROGRAM, PROGRAM_SIZE = 1 << 40, 1 << 20  # of each vCPU of the guest process
CODE, CODE_SIZE = 0x1000_0000, 1 << 20  # of each vCPU's machine code
_ENOUGH = 100_000  # exits; more than any program here has

Operation = tuple[int, int, int, int]  # kind, size, address, value
Zone = tuple[int, int, bool]  # address, size, port?
Entry = tuple[int, int, int, int]  # phys_addr, len, pio, data


class Seen(NamedTuple):
    """A VMM's view of a program: the entries that it drained before each exit, and the exit."""

    exits: list[tuple[list[Entry], Exit]]
    loads: list[int]
    ram: bytes


def why_unusable(vcpus: int = 1) -> str | None:
    """The reason why /dev/kvm cannot be used here for so many vCPUs."""
    try:
        capabilities()
        check_several(vcpus)
    except KvmUnusable as error:
        return str(error)
    return None


def _skipped_for(reason: str | None) -> pytest.MarkDecorator:
    return pytest.mark.skipif(reason is not None, reason=reason or "")


needs_kvm = _skipped_for(why_unusable())
needs_several = _skipped_for(why_unusable(vcpus=2))


def answer(exit_: Exit) -> int:
    """The common part of the devices of these tests."""
    return exit_[1] * 0x9E3779B97F4A7C15 >> 7


class _Vcpu(Protocol):
    @property
    def ring(self) -> Consumer | None: ...
    def complete(self, value: int, /) -> None: ...


class Side(ABC):
    """A VM with RAM and one vCPU, and the zones that are registered."""

    def __init__(self, vm: client.Vm | KvmVm, vcpu: _Vcpu) -> None:
        self.vm = vm
        self._vcpu = vcpu
        memory = vm.set_user_memory_region(0, RAM, RAM_SIZE)
        assert memory is not None
        self._ram = memory.mapping
        self._zones: list[Zone] = []

    def register(self, *zones: Zone) -> None:
        """Register zones, which `clear` takes away again."""
        for zone in zones:
            self.vm.register_coalesced_mmio(*zone)
            self._zones.append(zone)

    def unregister(self, *zones: Zone) -> None:
        for zone in zones:
            self.vm.unregister_coalesced_mmio(*zone)

    def clear(self) -> None:
        """Take every zone away, and the contents of the RAM."""
        self.unregister(*self._zones)
        self._zones = []
        self._ram.write(0, bytes(RAM_SIZE))

    def run(self, ops: list[Operation]) -> Seen:
        """Run a program to its halt, draining the ring at every exit and nowhere else."""
        array = np.array(ops, dtype=OP)
        self._load(array)
        ring = self._vcpu.ring
        assert ring is not None
        exits: list[tuple[list[Entry], Exit]] = []
        while len(exits) < _ENOUGH:
            exit_ = self._next_exit()
            entries = ring.peek().tolist()
            ring.commit(len(entries))
            exits.append((entries, exit_))
            if exit_[0] == abi.KVM_EXIT_HLT:
                return Seen(exits, self._loads(array), self._ram.read(0, RAM_SIZE))
            if not exit_[3]:
                self._vcpu.complete(answer(exit_))
        raise AssertionError("the program does not halt")

    @abstractmethod
    def _load(self, ops: NDArray[np.void]) -> None: ...

    @abstractmethod
    def _next_exit(self) -> Exit: ...

    @abstractmethod
    def _loads(self, ops: NDArray[np.void]) -> list[int]: ...

    @abstractmethod
    def first(self) -> int:
        """The slot where the ring's next entry goes: it is empty."""


class ProcessSide(Side):
    """The guest process."""

    def __init__(self) -> None:
        vm = client.Vm(GuestProcess(), 1, WaitPolicy.ADAPTIVE)
        self._client = vm.create_vcpu()
        super().__init__(vm, self._client)
        memory = vm.set_user_memory_region(1, PROGRAM, PROGRAM_SIZE)
        assert memory is not None
        self._program = memory.mapping
        vm.load_guest(f"{Path(__file__).resolve()}:run_programs")

    def _load(self, ops: NDArray[np.void]) -> None:
        self._program.write(0, len(ops).to_bytes(8, "little") + ops.tobytes())

    def _next_exit(self) -> Exit:
        exit_ = self._client.run(10)
        assert isinstance(exit_, tuple), "no exit within 10 seconds"
        return exit_

    def _loads(self, ops: NDArray[np.void]) -> list[int]:
        done = np.frombuffer(self._program.read(8, ops.nbytes), OP)
        return values_loaded(done)

    def first(self) -> int:
        page = self._client.mapping.read(abi.RUN_PAGES * abi.PAGE_SIZE, 4)
        return int.from_bytes(page, "little")


class KvmSide(Side):
    """This machine's KVM."""

    def __init__(self) -> None:
        vm = KvmVm()
        self._kvm = vm.create_vcpu()
        self._offset = vm.capabilities.coalesced_mmio * abi.PAGE_SIZE
        super().__init__(vm, self._kvm)
        memory = vm.set_user_memory_region(1, CODE, CODE_SIZE)
        assert memory is not None
        self._code = memory.mapping

    def _load(self, ops: NDArray[np.void]) -> None:
        self._program = assemble(Recording([ops]))
        assert self._program.size <= CODE_SIZE
        self._code.write(0, self._program.at(CODE))
        self._kvm.start_at(CODE, CODE + CODE_SIZE)

    def _next_exit(self) -> Exit:
        exit_ = self._kvm.run(10)
        assert isinstance(exit_, tuple), "no exit within 10 seconds"
        if exit_[0] not in (abi.KVM_EXIT_MMIO, abi.KVM_EXIT_IO, abi.KVM_EXIT_HLT):
            raise self._kvm.why_left(exit_[0])
        return exit_

    def _loads(self, ops: NDArray[np.void]) -> list[int]:
        program = self._program
        got = self._code.read(program.results_at, len(program.results))
        return [int(value) for value in program.loaded(got)]

    def first(self) -> int:
        return int.from_bytes(self._kvm.mapping.read(self._offset, 4), "little")


@contextmanager
def both() -> Iterator[tuple[ProcessSide, KvmSide]]:
    """A VM of either kernel."""
    process, kvm = ProcessSide(), KvmSide()
    try:
        yield process, kvm
    finally:
        process.vm.close()
        kvm.vm.close()


def compare(
    sides: tuple[ProcessSide, KvmSide], zones: list[Zone], ops: list[Operation]
) -> tuple[Seen, Seen]:
    """Run a program under these zones on both; what each VMM saw. The zones are gone after it."""
    seen = []
    for side in sides:
        side.register(*zones)
        try:
            seen.append(side.run(ops))
        finally:
            side.clear()
    return seen[0], seen[1]


def run_programs(vcpu: Vcpu) -> None:
    """The guest: run the vCPU's own program, halt, and the next one after the next entry."""
    halt = getattr(vcpu.bus, "halt", None)
    if halt is None:
        raise ProtocolError("this guest runs in a guest process only")
    program = PROGRAM + PROGRAM_SIZE * vcpu.index
    while True:
        count = int.from_bytes(vcpu.read_memory(program, 8), "little")
        ops = np.frombuffer(vcpu.read_memory(program + 8, count * OP.itemsize), OP)
        vcpu.execute(ops)
        vcpu.write_memory(program + 8, ops.tobytes())
        halt()


def values_loaded(ops: NDArray[np.void]) -> list[int]:
    """The values of loads and ins."""
    loads = (ops["kind"] == abi.OP_LOAD) | (ops["kind"] == abi.OP_IN)
    return [int(value) for value in ops["value"][loads]]
