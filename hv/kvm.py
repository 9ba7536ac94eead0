"""A VM of the machine's own KVM, over ioctls; `hv.client` is its counterpart for the emulation."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from coalesced.hv import abi, core, ring, shm
from coalesced.hv.client import Memory, Range
from coalesced.hv.cpu.cpuid import Leaf
from coalesced.hv.errors import GuestError, KvmUnusable, ProtocolError, RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.signals import held

DEVICE: Final = "/dev/kvm"

_NO_KVM: Final = "no KVM in this kernel: the device file exists, and no driver answers"
_WHY_NOT: Final = {
    errno.ENOENT: "no such device here: its file is missing, as in a container that is not given "
    "it, or KVM is not loaded (modprobe kvm_intel or kvm_amd)",
    errno.ENODEV: _NO_KVM,
    errno.ENXIO: _NO_KVM,
    errno.EACCES: "no permission to open it for reading and writing (is the user in group kvm?)",
    errno.EPERM: "not allowed to open it: the device cgroup or a security module forbids it",
}

_CR0_PROTECTED: Final = 0x11  # PE, and ET, which is fixed
_FLAT_CODE: Final = abi.KVM_SEGMENT.pack(0, 0xFFFFFFFF, 8, 11, 1, 0, 1, 1, 0, 1, 0, 0)
_FLAT_DATA: Final = abi.KVM_SEGMENT.pack(0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0)

_LEFT: Final = {
    abi.KVM_EXIT_SHUTDOWN: "it shut down by a triple fault (KVM_EXIT_SHUTDOWN)",
    abi.KVM_EXIT_FAIL_ENTRY: "KVM could not enter it (KVM_EXIT_FAIL_ENTRY, reason {detail:#x})",
    abi.KVM_EXIT_INTERNAL_ERROR: "KVM could not continue it (KVM_EXIT_INTERNAL_ERROR, suberror "
    "{detail}: no code at eip, or an instruction that its emulator does not know)",
}


class Capabilities(NamedTuple):
    """Capabilities of a usable /dev/kvm."""

    coalesced_mmio: int  # distance from kvm_run to the ring in pages
    coalesced_pio: bool


def _ioctl(fd: int, request: int, argument: int | bytes) -> Any:
    """As fcntl.ioctl, but a signal that comes meanwhile does not end it."""
    while True:
        try:
            return fcntl.ioctl(fd, request, argument)
        except InterruptedError:
            continue


def _open(device: str) -> int:
    """A descriptor of /dev/kvm; raises KvmUnusable."""
    if platform.machine() != "x86_64":
        raise KvmUnusable(f"{device}: expected an x86-64 machine, got {platform.machine()}")
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        said = _WHY_NOT.get(error.errno or 0, error.strerror)
        raise KvmUnusable(f"{device}: {said}") from error


def _check(fd: int, device: str) -> Capabilities:
    """The capabilities of an open /dev/kvm; raises KvmUnusable when they do not suffice."""

    def extension(capability: int) -> int:
        pages: int = _ioctl(fd, abi.KVM_CHECK_EXTENSION, capability)
        return pages

    try:
        version = _ioctl(fd, abi.KVM_GET_API_VERSION, 0)
    except OSError as error:
        raise KvmUnusable(f"{device}: it does not answer as KVM: {error.strerror}") from error
    if version != abi.KVM_API_VERSION:
        raise KvmUnusable(
            f"{device}: expected version {abi.KVM_API_VERSION} of KVM's interface, got {version}"
        )
    pages = extension(abi.KVM_CAP_COALESCED_MMIO)
    if not pages:
        raise KvmUnusable(f"{device}: KVM lacks coalesced MMIO (KVM_CAP_COALESCED_MMIO)")
    if not extension(abi.KVM_CAP_IMMEDIATE_EXIT):
        raise KvmUnusable(f"{device}: KVM lacks immediate_exit (KVM_CAP_IMMEDIATE_EXIT)")
    return Capabilities(pages, extension(abi.KVM_CAP_COALESCED_PIO) > 0)


def capabilities(device: str = DEVICE) -> Capabilities:
    """The capabilities of this machine's KVM; raises KvmUnusable when it cannot run a guest."""
    fd = _open(device)
    try:
        return _check(fd, device)
    finally:
        os.close(fd)


class KvmVm:
    """A VM of this machine's KVM. A request that KVM refuses raises RequestError."""

    def __init__(self, device: str = DEVICE) -> None:
        """KVM_CREATE_VM. Raises KvmUnusable."""
        self.memory: dict[int, Memory] = {}
        self.vcpu: KvmVcpu | None = None
        self._fd = -1
        self._system = _open(device)
        try:
            self.capabilities = _check(self._system, device)
            with held():  # a signal ends the call, and signals may come faster than it succeeds
                self._fd = _ioctl(self._system, abi.KVM_CREATE_VM, 0)
        except OSError as error:
            self.close()
            raise KvmUnusable(f"{device}: no VM can be created: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def set_user_memory_region(
        self,
        slot: int,
        start: int,
        size: int,
        memory: Memory | None = None,
        readonly: bool = False,
    ) -> Memory | None:
        """KVM_SET_USER_MEMORY_REGION: `size` bytes of RAM at `start`.

        `readonly`: ROM, whose writes exit. Both are multiples of 4096. Size 0 takes the slot away;
        `memory` is what a slot taken away held, to come back with its contents; None: new, zeroed
        RAM. Raises HostError without room.
        """
        if size == 0:
            self._set_region(slot, start, 0, 0)
            self.memory.pop(slot, None)
            return None
        if memory is None:
            segment = shm.create(f"memory slot {slot}", size)
            try:
                memory = Memory(start, segment)
            finally:
                segment.close()
        address = np.frombuffer(memoryview(memory.mapping), np.uint8).__array_interface__["data"][0]
        self._set_region(slot, start, size, address, abi.KVM_MEM_READONLY if readonly else 0)
        self.memory[slot] = memory  # KVM writes there: kept mapped while it does
        return memory

    def register_coalesced_mmio(self, addr: int, size: int, pio: bool = False) -> None:
        """KVM_REGISTER_COALESCED_MMIO: queue writes inside [addr, addr + size) from now on."""
        self._zone("KVM_REGISTER_COALESCED_MMIO", addr, size, pio)

    def unregister_coalesced_mmio(self, addr: int, size: int, pio: bool = False) -> None:
        """KVM_UNREGISTER_COALESCED_MMIO: remove every zone that contains the range."""
        self._zone("KVM_UNREGISTER_COALESCED_MMIO", addr, size, pio)

    def change_coalesced_mmio(
        self, removed: Sequence[Range], added: Sequence[Range], pio: bool = False
    ) -> int:
        """Unregister ranges, then register others; how many were registered.

        Fewer than all: the kernel has no room for the next one (ENOSPC).
        """
        for addr, size in removed:
            self.unregister_coalesced_mmio(addr, size, pio)
        for number, (addr, size) in enumerate(added):
            try:
                self.register_coalesced_mmio(addr, size, pio)
            except RequestError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return number
        return len(added)

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        """KVM_IOEVENTFD: from now on writes that match signal `fd`, a non-blocking eventfd.

        They neither exit nor wait in the ring, whose entries before them are there to be drained
        when the descriptor is readable. `assign` False: no more. Raises RequestError: EEXIST for a
        write that another one takes, ENOENT, ENOSPC, EINVAL.
        """
        self._request(self._fd, "KVM_IOEVENTFD", event.pack(fd, assign), str(event))

    def create_vcpu(self, number: int = 0) -> KvmVcpu:
        """KVM_CREATE_VCPU, with its kvm_run and the ring mapped."""
        fd = self._request(self._fd, "KVM_CREATE_VCPU", number)
        try:
            size = self._request(self._system, "KVM_GET_VCPU_MMAP_SIZE", 0)
            self.vcpu = KvmVcpu(fd, size, self.capabilities.coalesced_mmio * abi.PAGE_SIZE)
        except BaseException:
            os.close(fd)
            raise
        return self.vcpu

    def close(self) -> None:
        """Give everything back, and KVM ends the VM; may be called twice."""
        if self.vcpu is not None:
            self.vcpu.close()
        for fd in (self._fd, self._system):
            if fd >= 0:
                os.close(fd)
        self._fd = self._system = -1

    def _set_region(self, slot: int, start: int, size: int, address: int, flags: int = 0) -> None:
        layout = abi.KVM_USERSPACE_MEMORY_REGION
        argument = layout.pack(slot, flags, start, size, address)
        self._request(self._fd, "KVM_SET_USER_MEMORY_REGION", argument, f"slot {slot}: {start:#x}")

    def _zone(self, name: str, addr: int, size: int, pio: bool) -> None:
        argument = abi.KVM_COALESCED_MMIO_ZONE.pack(addr, size, pio)
        self._request(self._fd, name, argument, f"{addr:#x}+{size:#x}")

    @staticmethod
    def _request(fd: int, name: str, argument: bytes | int, what: str = "") -> int:
        try:
            answer = _ioctl(fd, getattr(abi, name), argument)
        except OSError as error:
            text = f"{name}{' ' if what else ''}{what}: {error.strerror}"
            raise RequestError(error.errno or errno.EIO, text) from error
        return answer if isinstance(answer, int) else 0


class KvmVcpu:
    """A vCPU of a `KvmVm`: enter the guest, answer its exits. It runs inside `run` alone."""

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
        data = _ioctl(self.fd, abi.KVM_GET_REGS, bytes(abi.KVM_REGS.size))
        return dict(zip(abi.KVM_REGS_NAMES, abi.KVM_REGS.unpack(data), strict=True))

    def interrupt(self, vector: int) -> None:
        """KVM_INTERRUPT: the guest takes it when it is entered; it must be ready to."""
        _ioctl(self.fd, abi.KVM_INTERRUPT, vector.to_bytes(4, "little"))

    def set_cpuid(self, leaves: Sequence[Leaf]) -> None:
        """KVM_SET_CPUID2: what CPUID answers; zeros for other functions."""
        entries = (
            abi.KVM_CPUID_ENTRY2.pack(each.function, 0, 0, each.eax, each.ebx, each.ecx, each.edx)
            for each in leaves
        )
        argument = abi.KVM_CPUID2.pack(len(leaves), 0) + b"".join(entries)
        _ioctl(self.fd, abi.KVM_SET_CPUID2, argument)

    def keep_start(self) -> None:
        """Keep the registers of now, those after power-on, for `reset`, and turn the APIC off."""
        sregs = bytearray(_ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE)))
        sregs[abi.KVM_SREGS_APIC_BASE : abi.KVM_SREGS_APIC_BASE + 8] = bytes(8)
        _ioctl(self.fd, abi.KVM_SET_SREGS, bytes(sregs))
        self._at_reset = bytes(sregs), _ioctl(self.fd, abi.KVM_GET_REGS, bytes(abi.KVM_REGS.size))

    def reset(self) -> None:
        """Put the processor into the state of `keep_start`. An unfinished access is dropped."""
        while self.handle.finish() is not None:
            pass
        _ioctl(self.fd, abi.KVM_SET_SREGS, self._at_reset[0])
        _ioctl(self.fd, abi.KVM_SET_REGS, self._at_reset[1])

    def start_at(self, address: int, stack: int) -> None:
        """Set the registers for flat 32-bit protected mode without paging, code at `address`.

        Interrupts are off, and no exception has a handler. `stack`: the first byte above it. An
        unfinished access of the vCPU is dropped.
        """
        # Otherwise KVM would finish it at the next KVM_RUN and overwrite these registers.
        while self.handle.finish() is not None:
            pass
        sregs = bytearray(_ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE)))
        sregs[abi.KVM_SREGS_CS : abi.KVM_SREGS_DS] = _FLAT_CODE
        sregs[abi.KVM_SREGS_DS : abi.KVM_SREGS_DS + 5 * abi.KVM_SEGMENT.size] = 5 * _FLAT_DATA
        cr0 = slice(abi.KVM_SREGS_CR0, abi.KVM_SREGS_CR0 + 8)
        sregs[cr0] = _CR0_PROTECTED.to_bytes(8, "little")
        _ioctl(self.fd, abi.KVM_SET_SREGS, bytes(sregs))
        registers = dict.fromkeys(abi.KVM_REGS_NAMES, 0)
        registers |= {"rip": address, "rsp": stack, "rflags": 2}
        _ioctl(self.fd, abi.KVM_SET_REGS, abi.KVM_REGS.pack(*registers.values()))

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
        sregs = _ioctl(self.fd, abi.KVM_GET_SREGS, bytes(abi.KVM_SREGS_SIZE))
        if int.from_bytes(sregs[abi.KVM_SREGS_CR0 : abi.KVM_SREGS_CR0 + 8], "little") >> 31:
            return None
        code = abi.KVM_SEGMENT.unpack_from(sregs, abi.KVM_SREGS_CS)
        address = code[0] + self.registers()["rip"] & 0xFFFFFFFF
        return address, bool(code[abi.KVM_SEGMENT_DB])

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
