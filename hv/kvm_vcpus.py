"""vCPUs of the machine's own KVM, over ioctls: one, and all that a VM has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from typing import Any, Final

from coalesced.hv import abi, core, ring
from coalesced.hv.cpu.cpuid import Leaf
from coalesced.hv.errors import GuestError, ProtocolError

_CR0_PROTECTED: Final = 0x11  # PE, and ET, which is fixed
_FLAT_CODE: Final = abi.KVM_SEGMENT.pack(0, 0xFFFFFFFF, 8, 11, 1, 0, 1, 1, 0, 1, 0, 0)
_FLAT_DATA: Final = abi.KVM_SEGMENT.pack(0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0)

_LEFT: Final = {
    abi.KVM_EXIT_SHUTDOWN: "it shut down by a triple fault (KVM_EXIT_SHUTDOWN)",
    abi.KVM_EXIT_FAIL_ENTRY: "KVM could not enter it (KVM_EXIT_FAIL_ENTRY, reason {detail:#x})",
    abi.KVM_EXIT_INTERNAL_ERROR: "KVM could not continue it (KVM_EXIT_INTERNAL_ERROR, suberror "
    "{detail}: no code at eip, or an instruction that its emulator does not know)",
}


def ioctl(fd: int, request: int, argument: int | bytes) -> Any:
    """As fcntl.ioctl, but a signal that comes meanwhile does not end it."""
    while True:
        try:
            return fcntl.ioctl(fd, request, argument)
        except InterruptedError:
            continue


class KvmVcpu:
    """A vCPU of a `KvmVm`: enter the guest, answer its exits.

    The only one of its VM runs inside `run` alone, in the thread that calls it.
    """

    def __init__(self, fd: int, mapping_size: int, ring_offset: int) -> None:
        """`fd` is this object's to close."""
        self.fd = fd
        self.mapping = core.Mapping([("kvm_run", fd, mapping_size)])
        self.ring_offset = ring_offset
        self.ring = ring.Consumer(self.mapping, ring_offset, abi.PAGE_SIZE)
        self.handle = core.KvmHandle(self.mapping, fd)
        self.complete = self.handle.complete
        self.run = self.handle.run
        self.enter = self.handle.enter
        self._at_reset = b"", b""

    def registers(self) -> dict[str, int]:
        """KVM_GET_REGS, by the names of struct kvm_regs."""
        data = ioctl(self.fd, abi.KVM_GET_REGS, bytes(abi.KVM_REGS.size))
        return dict(zip(abi.KVM_REGS_NAMES, abi.KVM_REGS.unpack(data), strict=True))

    def interrupt(self, vector: int) -> None:
        """KVM_INTERRUPT: the guest takes it when it is entered; it must be ready to."""
        ioctl(self.fd, abi.KVM_INTERRUPT, vector.to_bytes(4, "little"))

    def set_cpuid(self, leaves: Sequence[Leaf]) -> None:
        """KVM_SET_CPUID2: what CPUID answers; zeros for other functions."""
        entries = (
            abi.KVM_CPUID_ENTRY2.pack(each.function, 0, 0, each.eax, each.ebx, each.ecx, each.edx)
            for each in leaves
        )
        argument = abi.KVM_CPUID2.pack(len(leaves), 0) + b"".join(entries)
        ioctl(self.fd, abi.KVM_SET_CPUID2, argument)

    def keep_start(self) -> None:
        """Keep the registers of now, those after power-on, for `reset`, and turn the APIC off."""
        sregs = bytearray(ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE)))
        sregs[abi.KVM_SREGS_APIC_BASE : abi.KVM_SREGS_APIC_BASE + 8] = bytes(8)
        ioctl(self.fd, abi.KVM_SET_SREGS, bytes(sregs))
        self._at_reset = bytes(sregs), ioctl(self.fd, abi.KVM_GET_REGS, bytes(abi.KVM_REGS.size))

    def reset(self) -> None:
        """Put the processor into the state of `keep_start`. An unfinished access is dropped."""
        while self.handle.finish() is not None:
            pass
        ioctl(self.fd, abi.KVM_SET_SREGS, self._at_reset[0])
        ioctl(self.fd, abi.KVM_SET_REGS, self._at_reset[1])

    def start_at(self, address: int, stack: int, index: int = 0) -> None:
        """Set the registers for flat 32-bit protected mode without paging, code at `address`.

        Interrupts are off, and no exception has a handler. `stack`: the first byte above it;
        `index`: which vCPU it is, which the code finds in eax. An unfinished access of the vCPU is
        dropped.
        """
        # Otherwise KVM would finish it at the next KVM_RUN and overwrite these registers.
        while self.handle.finish() is not None:
            pass
        sregs = bytearray(ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE)))
        sregs[abi.KVM_SREGS_CS : abi.KVM_SREGS_DS] = _FLAT_CODE
        sregs[abi.KVM_SREGS_DS : abi.KVM_SREGS_DS + 5 * abi.KVM_SEGMENT.size] = 5 * _FLAT_DATA
        cr0 = slice(abi.KVM_SREGS_CR0, abi.KVM_SREGS_CR0 + 8)
        sregs[cr0] = _CR0_PROTECTED.to_bytes(8, "little")
        ioctl(self.fd, abi.KVM_SET_SREGS, bytes(sregs))
        registers = dict.fromkeys(abi.KVM_REGS_NAMES, 0)
        registers |= {"rip": address, "rsp": stack, "rflags": 2, "rax": index}
        ioctl(self.fd, abi.KVM_SET_REGS, abi.KVM_REGS.pack(*registers.values()))

    def why_left(self, reason: int) -> GuestError | ProtocolError:
        """The error for an exit that ends the guest, with its registers."""
        union = self.mapping.read(abi.KVM_RUN_UNION, 8)
        detail = int.from_bytes(
            union[: abi.KVM_RUN_INTERNAL.size] if reason == abi.KVM_EXIT_INTERNAL_ERROR else union,
            "little",
        )
        said = _LEFT.get(reason)
        if said is None:
            return ProtocolError(f"kvm_run: exit_reason is {reason}, which this VMM does not know")
        return GuestError(f"the guest: {said.format(detail=detail)}; {self._shown()}")

    def next_code(self) -> tuple[int, bool] | None:
        """The linear address of the next instruction, and whether it is 32-bit code.

        None with paging, where it says nothing about memory.
        """
        sregs = ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE))
        if int.from_bytes(sregs[abi.KVM_SREGS_CR0 : abi.KVM_SREGS_CR0 + 8], "little") >> 31:
            return None
        code = abi.KVM_SEGMENT.unpack_from(sregs, abi.KVM_SREGS_CS)
        address = code[0] + self.registers()["rip"] & 0xFFFFFFFF
        return address, bool(code[abi.KVM_SEGMENT_DB])

    def pause(self) -> None:
        """Nothing to do: outside `run` it does not run."""

    def restart(self) -> None:
        """Nothing to do: it is never parked, and `start_at` drops its exit."""

    def park(self) -> bool:
        """Take note that it has halted; False: there is no other one to run."""
        return False

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        self.handle.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _shown(self) -> str:
        registers = self.registers()
        names = ("rip", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp")
        # In 32-bit mode the names are those of the lower halves, and the upper ones are zero.
        return ", ".join(f"e{name[1:]} {registers[name] & 0xFFFFFFFF:#x}" for name in names)


class KvmVcpus:
    """Several vCPUs of a `KvmVm`, each in KVM_RUN in a thread of its own.

    `run` returns the exits of all of them in turn, while the others run on. `complete`, `enter`,
    `park` and `why_left` are about the vCPU whose exit it returned last, `current`. Each keeps its
    writes: an exit for an access or HLT is returned again until one of these has dealt with it.
    """

    def __init__(self, vcpus: Sequence[KvmVcpu]) -> None:
        """Raises HostError when there is no room for a thread."""
        self._vcpus = vcpus
        self._threads = core.KvmThreads(tuple(vcpu.handle for vcpu in vcpus))
        self.run = self._threads.run
        self.complete = self._threads.complete
        self.enter = self._threads.enter
        self.park = self._threads.park
        self.pause = self._threads.pause
        self.restart = self._threads.restart
        self.close = self._threads.close

    @property
    def current(self) -> int:
        """The index of the vCPU that exited last."""
        return self._threads.current

    def why_left(self, reason: int) -> GuestError | ProtocolError:
        """The error for an exit that ends the guest: which vCPU exited, and its registers."""
        error = self._vcpus[self.current].why_left(reason)
        return type(error)(f"vCPU {self.current}: {error}")
