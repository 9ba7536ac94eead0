"""Programs of several vCPUs on the emulated kernel and on this machine's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from coalesced.hv import abi, client
from coalesced.hv.abi import OP
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.kvm import KvmVm
from coalesced.hv.outcome import Outcome
from coalesced.hv.process import GuestProcess
from coalesced.hv.ring import Consumer
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.accel.x86 import assemble
from helpers import kvm_sides
from helpers.kvm_sides import CODE, CODE_SIZE, PROGRAM, PROGRAM_SIZE, Operation, answer

WINDOW, WINDOW_SIZE = 0xE000_0000, 0x1000  # each vCPU's memory, part of which is queued
QUEUED, QUEUED_SIZE = 0x100, 0x400
PORT, PORTS = 0x1000, 0x20  # each vCPU's ports, of which the first are queued
QUEUED_PORTS = 8

Event = tuple[bool, bool, int, int, int]  # queued?, port?, address, size, value (0 of a load)


class Seen(NamedTuple):
    """A VMM's view of a vCPU: its entries and exits but HLT, in order, and what its loads gave."""

    events: list[Event]
    loads: list[int]

    def writes(self) -> list[Event]:
        """The writes, whether they were queued or exited."""
        return [(False, *event[1:]) for event in self.events if event[0] or event[4] != _LOAD]


_LOAD = -1  # stands for the value of a load


def window(index: int) -> int:
    return WINDOW + WINDOW_SIZE * index


def ports(index: int) -> int:
    return PORT + PORTS * index


def owner(port: bool, address: int) -> int:
    """The vCPU to which an address belongs."""
    return (address - PORT) // PORTS if port else (address - WINDOW) // WINDOW_SIZE


class _Runner(Protocol):
    def run(self, timeout: float | None, /) -> Outcome: ...
    def complete(self, value: int, /) -> None: ...
    def enter(self) -> None: ...
    def park(self) -> bool: ...


class Several(ABC):
    """A VM whose vCPUs have zones of their own in the one ring."""

    def __init__(self, vm: client.Vm | KvmVm, vcpus: int) -> None:
        self.vm = vm
        for index in range(vcpus):
            vm.create_vcpu()
            vm.register_coalesced_mmio(window(index) + QUEUED, QUEUED_SIZE)
            vm.register_coalesced_mmio(ports(index), QUEUED_PORTS, True)
        ring = vm.vcpus[0].ring
        assert ring is not None
        self._ring: Consumer = ring

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.vm.close()

    def run(self, programs: Sequence[Sequence[Operation]]) -> list[Seen]:
        """Run a program on each vCPU until all halt; the ring is drained at each exit alone."""
        arrays = [np.array(list(ops), dtype=OP) for ops in programs]
        self._load(arrays)
        events: list[list[Event]] = [[] for _ in programs]
        runner = self._runner()
        others = True
        while others:
            got = runner.run(10.0)
            assert isinstance(got, tuple), "no exit within 10 seconds"
            reason, address, size, is_write, value = got
            for at, length, pio, data in self._drained():
                events[owner(bool(pio), at)].append((True, bool(pio), at, length, data))
            if reason == abi.KVM_EXIT_HLT:
                others = runner.park()
                continue
            port = reason == abi.KVM_EXIT_IO
            assert port or reason == abi.KVM_EXIT_MMIO, got
            given = value if is_write else _LOAD
            events[owner(port, address)].append((False, port, address, size, given))
            if not is_write:
                runner.complete(answer(got))
            runner.enter()
        return [Seen(*each) for each in zip(events, self._loads(arrays), strict=True)]

    def _drained(self) -> list[tuple[int, int, int, int]]:
        entries = self._ring.peek().tolist()
        self._ring.commit(len(entries))
        return entries  # type: ignore[no-any-return]

    @abstractmethod
    def _runner(self) -> _Runner: ...

    @abstractmethod
    def _load(self, programs: list[NDArray[np.void]]) -> None: ...

    @abstractmethod
    def _loads(self, programs: list[NDArray[np.void]]) -> list[list[int]]: ...


class ProcessVcpus(Several):
    """Threads of the guest process."""

    def __init__(self, vcpus: int) -> None:
        self._client = client.Vm(GuestProcess(), 1, WaitPolicy.ADAPTIVE)
        super().__init__(self._client, vcpus)
        memory = self._client.set_user_memory_region(0, PROGRAM, PROGRAM_SIZE * vcpus)
        assert memory is not None
        self._programs = memory.mapping
        self._client.load_guest(f"{kvm_sides.__file__}:run_programs")
        self._together = self._client.all_vcpus()

    def _runner(self) -> _Runner:
        return self._together

    def _load(self, programs: list[NDArray[np.void]]) -> None:
        for index, ops in enumerate(programs):
            program = len(ops).to_bytes(8, "little") + ops.tobytes()
            self._programs.write(PROGRAM_SIZE * index, program)

    def _loads(self, programs: list[NDArray[np.void]]) -> list[list[int]]:
        found = []
        for index, ops in enumerate(programs):
            done = np.frombuffer(self._programs.read(PROGRAM_SIZE * index + 8, ops.nbytes), OP)
            found.append(kvm_sides.values_loaded(done))
        return found


class RealVcpus(Several):
    """This machine's KVM, with a thread for each vCPU."""

    def __init__(self, vcpus: int) -> None:
        self._kvm = KvmVm()
        super().__init__(self._kvm, vcpus)
        memory = self._kvm.set_user_memory_region(0, CODE, CODE_SIZE * vcpus)
        assert memory is not None
        self._code = memory.mapping
        self._together = self._kvm.all_vcpus()

    def _runner(self) -> _Runner:
        return self._together

    def _load(self, programs: list[NDArray[np.void]]) -> None:
        self._assembled = [assemble(Recording([ops])) for ops in programs]
        for index, (vcpu, program) in enumerate(zip(self._kvm.vcpus, self._assembled, strict=True)):
            assert program.size <= CODE_SIZE
            base = CODE + CODE_SIZE * index
            self._code.write(base - CODE, program.at(base))
            vcpu.start_at(base, base + CODE_SIZE, index)

    def _loads(self, programs: list[NDArray[np.void]]) -> list[list[int]]:
        found = []
        for index, program in enumerate(self._assembled):
            at = CODE_SIZE * index + program.results_at
            got = self._code.read(at, len(program.results))
            found.append([int(value) for value in program.loaded(got)])
        return found
