"""Every layout and number that both processes share, as <linux/kvm.h> has them on x86-64.

Names are the header's own. Additions to KVM's interface are at the end.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

    KVM_COALESCED_MMIO: np.dtype[np.void]
    OP: np.dtype[np.void]

PAGE_SIZE: Final = 4096
KVM_API_VERSION: Final = 12

# --- struct kvm_run ---

KVM_RUN_SIZE: Final = 2352
KVM_RUN_IMMEDIATE_EXIT: Final = 1  # u8
KVM_RUN_EXIT_REASON: Final = 8  # u32
KVM_RUN_UNION: Final = 32
# mmio {phys_addr u64, data u8[8], len u32, is_write u8}
KVM_RUN_MMIO: Final = struct.Struct("<Q8sIB")
# io {direction u8, size u8, port u16, count u32, data_offset u64}
KVM_RUN_IO: Final = struct.Struct("<BBHIQ")
KVM_PIO_PAGE_OFFSET: Final = 1  # page of the run segment that holds the data of an IO exit

# internal {suberror u32}
KVM_RUN_INTERNAL: Final = struct.Struct("<I")

KVM_EXIT_IO: Final = 2
KVM_EXIT_HLT: Final = 5
KVM_EXIT_MMIO: Final = 6
KVM_EXIT_IRQ_WINDOW_OPEN: Final = 7
KVM_EXIT_SHUTDOWN: Final = 8
KVM_EXIT_FAIL_ENTRY: Final = 9
KVM_EXIT_INTR: Final = 10
KVM_EXIT_INTERNAL_ERROR: Final = 17
KVM_EXIT_SYSTEM_EVENT: Final = 24
KVM_EXIT_IO_IN: Final = 0
KVM_EXIT_IO_OUT: Final = 1
KVM_SYSTEM_EVENT_CRASH: Final = 3

# --- the coalesced ring ---

KVM_COALESCED_MMIO_RING_HEADER: Final = 8  # first u32, last u32
KVM_COALESCED_MMIO_SIZE: Final = 24
KVM_COALESCED_MMIO_MAX: Final = (
    PAGE_SIZE - KVM_COALESCED_MMIO_RING_HEADER
) // KVM_COALESCED_MMIO_SIZE

# --- ioctls ---

KVMIO: Final = 0xAE


def _io(number: int) -> int:
    return KVMIO << 8 | number


def _iow(number: int, size: int) -> int:
    return 1 << 30 | size << 16 | KVMIO << 8 | number


def _ior(number: int, size: int) -> int:
    return 2 << 30 | size << 16 | KVMIO << 8 | number


# struct kvm_coalesced_mmio_zone {addr u64, size u32, pio u32}
KVM_COALESCED_MMIO_ZONE: Final = struct.Struct("<QII")
# struct kvm_ioeventfd {datamatch u64, addr u64, len u32, fd s32, flags u32, pad u8[36]}
KVM_IOEVENTFD_ARGUMENT: Final = struct.Struct("<QQIiI36x")
KVM_IOEVENTFD_FLAG_DATAMATCH: Final = 1  # bits of its flags
KVM_IOEVENTFD_FLAG_PIO: Final = 2
KVM_IOEVENTFD_FLAG_DEASSIGN: Final = 4
# struct kvm_userspace_memory_region {slot u32, flags u32, guest_phys_addr, memory_size,
# userspace_addr u64}
KVM_USERSPACE_MEMORY_REGION: Final = struct.Struct("<IIQQQ")

KVM_MEM_READONLY: Final = 2  # a flag of it

# struct kvm_regs: 18 u64
KVM_REGS_NAMES: Final = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
)  # fmt: skip
KVM_REGS: Final = struct.Struct("<18Q")
# struct kvm_segment {base u64, limit u32, selector u16, type, present, dpl, db, s, l, g, avl,
# unusable u8, and one of padding}
KVM_SEGMENT: Final = struct.Struct("<QIHBBBBBBBBBx")
KVM_SEGMENT_DB: Final = 6  # its field for the size of addresses
# struct kvm_sregs {cs, ds, es, fs, gs, ss, tr, ldt kvm_segment, gdt, idt {base u64, limit u16 and
# 6 bytes of padding}, cr0, cr2, cr3, cr4, cr8, efer, apic_base, interrupt_bitmap[4] u64}
KVM_SREGS_SIZE: Final = 312
KVM_SREGS_CS: Final = 0
KVM_SREGS_DS: Final = 24  # then ES, FS, GS and SS
KVM_SREGS_CR0: Final = 224  # u64
KVM_SREGS_APIC_BASE: Final = 272  # u64

# struct kvm_cpuid2 {nent u32, padding u32}, then entries {function, index, flags, eax, ebx, ecx,
# edx u32, padding u32[3]}
KVM_CPUID2: Final = struct.Struct("<II")
KVM_CPUID_ENTRY2: Final = struct.Struct("<7I12x")

KVM_GET_API_VERSION: Final = _io(0x00)
KVM_CREATE_VM: Final = _io(0x01)
KVM_CHECK_EXTENSION: Final = _io(0x03)
KVM_GET_VCPU_MMAP_SIZE: Final = _io(0x04)
KVM_CREATE_VCPU: Final = _io(0x41)
KVM_RUN: Final = _io(0x80)
KVM_SET_CPUID2: Final = _iow(0x90, KVM_CPUID2.size)
KVM_INTERRUPT: Final = _iow(0x86, 4)
KVM_GET_REGS: Final = _ior(0x81, KVM_REGS.size)
KVM_SET_REGS: Final = _iow(0x82, KVM_REGS.size)
KVM_GET_SREGS: Final = _ior(0x83, KVM_SREGS_SIZE)
KVM_SET_SREGS: Final = _iow(0x84, KVM_SREGS_SIZE)
KVM_SET_USER_MEMORY_REGION: Final = _iow(0x46, KVM_USERSPACE_MEMORY_REGION.size)
KVM_REGISTER_COALESCED_MMIO: Final = _iow(0x67, KVM_COALESCED_MMIO_ZONE.size)
KVM_UNREGISTER_COALESCED_MMIO: Final = _iow(0x68, KVM_COALESCED_MMIO_ZONE.size)
KVM_IOEVENTFD: Final = _iow(0x79, KVM_IOEVENTFD_ARGUMENT.size)
# Of the series "KVM: Improve MMIO Coalescing API", v3 of August 2024, which was not merged.
# struct kvm_coalesced_mmio_zone2 {addr u64, size u32, pio u32, buffer_fd s32, padding}; the number
# of a buffer stands for its descriptor, which means nothing in the other process.
KVM_COALESCED_MMIO_ZONE2: Final = struct.Struct("<QIIi4x")
KVM_CREATE_COALESCED_MMIO_BUFFER: Final = _io(0xD6)
KVM_REGISTER_COALESCED_MMIO2: Final = _iow(0xD7, KVM_COALESCED_MMIO_ZONE2.size)
KVM_UNREGISTER_COALESCED_MMIO2: Final = _iow(0xD8, KVM_COALESCED_MMIO_ZONE2.size)

KVM_CAP_COALESCED_MMIO: Final = 15
KVM_CAP_IOEVENTFD: Final = 36
KVM_CAP_IMMEDIATE_EXIT: Final = 136
KVM_CAP_COALESCED_PIO: Final = 162
KVM_CAP_COALESCED_MMIO2: Final = 239  # of that series
COALESCED_CAPABILITIES: Final = (
    KVM_CAP_COALESCED_MMIO,
    KVM_CAP_COALESCED_PIO,
    KVM_CAP_COALESCED_MMIO2,
)
NR_IOBUS_DEVS: Final = 1000  # zones per kind (include/linux/kvm_host.h)

# --- ours ---

# Pages of the run segment; the ring is mapped right behind them, so this is what the check of
# KVM_CAP_COALESCED_MMIO answers: the ring's distance from kvm_run in pages.
RUN_PAGES: Final = 2
VCPUS_MAX: Final = 8
RING_PAGES_MAX: Final = 4096
MEMORY_SLOTS: Final = 32  # RAM_SLOTS in hv/core/vcpu.h
BUFFERS_MAX: Final = 64  # OWN_RINGS there: rings of devices' own

# Requests of ours, beside KVM's ioctls, on the control socket.
HV_LOAD_GUEST: Final = 0x01
HV_GUEST_ERROR: Final = 0x02
HV_STATISTICS: Final = 0x03
# A batch: how many zones to unregister, then those, then the ones to register, each a
# KVM_COALESCED_MMIO_ZONE. The result is how many were registered before there was no room.
HV_CHANGE_ZONES: Final = 0x04
HV_ZONE_POSTED: Final = 2  # a bit of `pio` of one to register: a posted zone
HV_ZONE_BUFFER_SHIFT: Final = 8  # from this bit on the number of its buffer; 0: the VM's ring
# Give a buffer up: its number. Its zones go along.
HV_CLOSE_COALESCED_MMIO_BUFFER: Final = 0x05
# Pages of the ring, and from how many entries on its descriptor is written.
HV_BUFFER: Final = struct.Struct("<II")
# An ioeventfd as the vCPU looks for it: address, value, length, descriptor, whether the value
# counts, and whether it precedes the zones around it.
HV_EVENT: Final = struct.Struct("<QQIiII")
HV_STATISTICS_REPLY: Final = struct.Struct("<QQQ")  # coalesced, exits, signals
HV_CREATE_VM: Final = struct.Struct("<II")  # ring pages (0: no such capability), wait policy
HV_REQUEST: Final = struct.Struct("<I")  # number, then its argument
HV_REPLY: Final = struct.Struct("<q")  # result or -errno, then a payload or the error's text
HV_WHERE: Final = 1 << 40  # the result of a message that nobody requested: where the guest is
HV_MESSAGE_MAX: Final = 1 << 16

# The kinds of a bus operation of a guest, an `OP`.
OP_LOAD: Final = 0
OP_STORE: Final = 1
OP_IN: Final = 2
OP_OUT: Final = 3

# The types of arrays, made when the first array is: a guest process may do without numpy.
_ARRAYS: Final = {
    # An entry of the ring.
    "KVM_COALESCED_MMIO": [("phys_addr", "<u8"), ("len", "<u4"), ("pio", "<u4"), ("data", "<u8")],
    # A bus operation of a guest: its kind, its size in bytes, its address or port, and the value
    # that it writes or has read.
    "OP": [("kind", "<u4"), ("size", "<u4"), ("address", "<u8"), ("value", "<u8")],
}


if not TYPE_CHECKING:  # where a type checker saw it, every name would exist

    def __getattr__(name: str) -> object:
        if name not in _ARRAYS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np  # noqa: PLC0415 - see _ARRAYS

        return globals().setdefault(name, np.dtype(_ARRAYS[name]))


def ring_slots(pages: int) -> int:
    """Slots of a ring of `pages` pages; all but one can be used."""
    return (pages * PAGE_SIZE - KVM_COALESCED_MMIO_RING_HEADER) // KVM_COALESCED_MMIO_SIZE
