"""Linux's tracepoints of KVM, as ftrace's `trace` and trace_pipe, trace-cmd and perf print them.

    qemu-375 [001] .....  3387.787721: kvm_mmio: mmio write len 4 gpa 0xfebc0010 val 0x1
    qemu-375 [001] .....  3387.787724: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)

perf writes kvm:kvm_mmio, ftrace's option fields the name and the value of each field. A write is
traced before anybody answers it; it exits if the next line of its thread is kvm_userspace_exit.
"""

from __future__ import annotations

from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.formats.base import Format

_MMIO = " len %su gpa 0x%ax val 0x%vx"
_PIO = " at 0x%ax size %sw count %cu"
_MMIO_FIELDS = " len=0x%sx (%w gpa=0x%ax (%w val=0x%vx (%w"
_PIO_FIELDS = " port=0x%ax (%w size=0x%sx (%w count=0x%cx (%w val=0x%vx (%w"

FORMAT = Format(
    "KVM's tracepoints",
    "kvm_mmio: mmio read|write len N gpa 0x… val 0x…, or kvm_pio: pio_read|pio_write at 0x… …",
    "perf record -e kvm:kvm_mmio -e kvm:kvm_pio -e kvm:kvm_userspace_exit -m 8192 -- "
    "qemu-system-x86_64 -accel kvm …; perf script > FILE",
    (
        (Kind.STORE, "kvm_mmio: ", f"%_mmio write{_MMIO}"),
        (Kind.LOAD_BEGINS, "kvm_mmio: ", f"%_mmio unsatisfied-read{_MMIO}"),
        (Kind.LOAD, "kvm_mmio: ", f"%_mmio read{_MMIO}"),
        (Kind.STORE, "kvm_mmio: ", f"%_type=0x2 (2){_MMIO_FIELDS}"),
        (Kind.LOAD_BEGINS, "kvm_mmio: ", f"%_type=0x0 (0){_MMIO_FIELDS}"),
        (Kind.LOAD, "kvm_mmio: ", f"%_type=0x1 (1){_MMIO_FIELDS}"),
        (Kind.OUT, "kvm_pio: ", f"%_pio_write{_PIO} val 0x%vx%o(...)"),
        (Kind.IN, "kvm_pio: ", f"%_pio_read{_PIO} val 0x%vx%o(...)"),
        (Kind.OUT, "kvm_pio: ", f"%_rw=0x1 (1){_PIO_FIELDS}"),
        (Kind.IN, "kvm_pio: ", f"%_rw=0x0 (0){_PIO_FIELDS}"),
        (Kind.NO_VALUE, "kvm_pio: ", f"%_pio_write{_PIO}"),
        (Kind.NO_VALUE, "kvm_pio: ", f"%_pio_read{_PIO}"),
        (Kind.IOEVENTFD, "kvm_fast_mmio: ", "%_fast mmio at gpa 0x%ax"),
        (Kind.IOEVENTFD, "kvm_fast_mmio: ", "%_gpa=0x%ax (%w"),
        (Kind.EXIT_MMIO, "kvm_userspace_exit: ", "%_reason KVM_EXIT_MMIO (6)"),
        (Kind.EXIT_IO, "kvm_userspace_exit: ", "%_reason KVM_EXIT_IO (2)"),
        (Kind.EXIT_HLT, "kvm_userspace_exit: ", "%_reason KVM_EXIT_HLT (5)"),
        (Kind.EXIT_MMIO, "kvm_userspace_exit: ", "%_reason=0x6 (6) errno=0x0 (0)"),
        (Kind.EXIT_IO, "kvm_userspace_exit: ", "%_reason=0x2 (2) errno=0x0 (0)"),
        (Kind.EXIT_HLT, "kvm_userspace_exit: ", "%_reason=0x5 (5) errno=0x0 (0)"),
        (Kind.EXIT_OTHER, "kvm_userspace_exit: ", "%_reason %*"),
        (Kind.EXIT_OTHER, "kvm_userspace_exit: ", "%_reason=%*"),
        (Kind.KNOWN, "kvm_exit: ", "%*"),
        (Kind.KNOWN, "kvm_entry: ", "%*"),
        (Kind.LOST, "[LOST ", "%*"),
        (Kind.LOST, "EVENTS DROPPED]", ""),
        (Kind.LOST, "[EVENTS DROPPED]", ""),
        (Kind.LOST, "PERF_RECORD_LOST", "%*"),
    ),
)
