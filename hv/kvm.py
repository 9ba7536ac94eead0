"""A VM of the machine's own KVM, over ioctls; `hv.client` is its counterpart for the emulation."""

from __future__ import annotations

import errno
import os
import platform
from itertools import takewhile
from typing import Final, NamedTuple

import numpy as np

from coalesced.hv import abi, shm
from coalesced.hv.client import ZoneChange
from coalesced.hv.errors import KvmUnusable, RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.kvm_vcpus import KvmVcpu, KvmVcpus, ioctl
from coalesced.hv.shm import Memory
from coalesced.hv.signals import held

DEVICE: Final = "/dev/kvm"
_SEVERAL_SINCE: Final = (6, 12)

_NO_KVM: Final = "no KVM in this kernel: the device file exists, and no driver answers"
_WHY_NOT: Final = {
    errno.ENOENT: "no such device here: its file is missing, as in a container that is not given "
    "it, or KVM is not loaded (modprobe kvm_intel or kvm_amd)",
    errno.ENODEV: _NO_KVM,
    errno.ENXIO: _NO_KVM,
    errno.EACCES: "no permission to open it for reading and writing (is the user in group kvm?)",
    errno.EPERM: "not allowed to open it: the device cgroup or a security module forbids it",
}


class Capabilities(NamedTuple):
    """Capabilities of a usable /dev/kvm."""

    coalesced_mmio: int  # distance from kvm_run to the ring in pages
    coalesced_pio: bool


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
        pages: int = ioctl(fd, abi.KVM_CHECK_EXTENSION, capability)
        return pages

    try:
        version = ioctl(fd, abi.KVM_GET_API_VERSION, 0)
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


def check_several(vcpus: int) -> None:
    """Raise KvmUnusable for several vCPUs on a kernel whose ring cannot be drained meanwhile.

    Before 6.12 its full check lets a vCPU overrun a ring that is drained while it runs.
    """
    if vcpus == 1:
        return
    release = platform.release()
    parts = ("".join(takewhile(str.isdecimal, part)) for part in release.split(".")[:2])
    if tuple(int(part or 0) for part in parts) < _SEVERAL_SINCE:
        raise KvmUnusable(
            f"{vcpus} vCPUs: expected Linux 6.12 or newer, got {release}: before it KVM loses "
            "entries of a ring that is drained while another vCPU writes"
        )


class KvmVm:
    """A VM of this machine's KVM. A request that KVM refuses raises RequestError."""

    def __init__(self, device: str = DEVICE) -> None:
        """KVM_CREATE_VM. Raises KvmUnusable."""
        self.memory: dict[int, Memory] = {}
        self.vcpus: list[KvmVcpu] = []
        self._together: KvmVcpus | None = None
        self._fd = -1
        self._system = _open(device)
        try:
            self.capabilities = _check(self._system, device)
            with held():  # a signal ends the call, and signals may come faster than it succeeds
                self._fd = ioctl(self._system, abi.KVM_CREATE_VM, 0)
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

    def change_coalesced_mmio(self, change: ZoneChange) -> int:
        """Unregister ranges, then register others; how many were registered.

        Fewer than all: the kernel has no room for the next one (ENOSPC).
        """
        assert not change.posted
        assert change.buffer is None
        for addr, size in change.removed:
            self.unregister_coalesced_mmio(addr, size, change.port)
        for number, (addr, size) in enumerate(change.added):
            try:
                self.register_coalesced_mmio(addr, size, change.port)
            except RequestError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return number
        return len(change.added)

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        """KVM_IOEVENTFD: from now on writes that match signal `fd`, a non-blocking eventfd.

        They neither exit nor wait in the ring, whose entries before them are there to be drained
        when the descriptor is readable. `assign` False: no more. Raises RequestError: EEXIST for a
        write that another one takes, ENOENT, ENOSPC, EINVAL.
        """
        self._request(self._fd, "KVM_IOEVENTFD", event.pack(fd, assign), str(event))

    def create_vcpu(self) -> KvmVcpu:
        """KVM_CREATE_VCPU of the next one, with its kvm_run and the VM's ring mapped.

        Raises KvmUnusable for a second one before Linux 6.12.
        """
        check_several(len(self.vcpus) + 1)
        fd = self._request(self._fd, "KVM_CREATE_VCPU", len(self.vcpus))
        try:
            size = self._request(self._system, "KVM_GET_VCPU_MMAP_SIZE", 0)
            vcpu = KvmVcpu(fd, size, self.capabilities.coalesced_mmio * abi.PAGE_SIZE)
        except BaseException:
            os.close(fd)
            raise
        self.vcpus.append(vcpu)
        return vcpu

    def all_vcpus(self) -> KvmVcpu | KvmVcpus:
        """The runner of all vCPUs: of the only one, or of several in threads of their own.

        From now on each keeps its writes: `run` returns one again until `enter` has taken it.
        Raises HostError when there is no room for a thread.
        """
        for vcpu in self.vcpus:
            vcpu.handle.keep_writes()
        if len(self.vcpus) == 1:
            return self.vcpus[0]
        self._together = KvmVcpus(self.vcpus)
        return self._together

    def close(self) -> None:
        """Give everything back, and KVM ends the VM; may be called twice."""
        if self._together is not None:
            self._together.close()
            self._together = None
        for vcpu in self.vcpus:
            vcpu.close()
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

    def _request(self, fd: int, name: str, argument: bytes | int, what: str = "") -> int:
        """A request, for which vCPUs in threads of their own leave the guest."""
        if self._together is not None:
            self._together.pause()
        try:
            answer = ioctl(fd, getattr(abi, name), argument)
        except OSError as error:
            text = f"{name}{' ' if what else ''}{what}: {error.strerror}"
            raise RequestError(error.errno or errno.EIO, text) from error
        return answer if isinstance(answer, int) else 0
