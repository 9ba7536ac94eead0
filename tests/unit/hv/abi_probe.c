/* What this machine's <linux/kvm.h> says, a name and a number per line. */
#include <linux/kvm.h>
#include <stddef.h>
#include <stdio.h>

/* struct kvm_coalesced_mmio_ring's entries fill a page; the header takes its size from libc. */
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif

#define SAY(name, value) printf("%s %llu\n", name, (unsigned long long)(value))
#define NUMBER(name) SAY(#name, name)
#define SIZE(type) SAY("sizeof " #type, sizeof(struct type))
#define OFFSET(type, member) SAY(#type "." #member, offsetof(struct type, member))

int main(void)
{
    NUMBER(KVM_API_VERSION);
    NUMBER(KVM_EXIT_IO);
    NUMBER(KVM_EXIT_HLT);
    NUMBER(KVM_EXIT_MMIO);
    NUMBER(KVM_EXIT_SHUTDOWN);
    NUMBER(KVM_EXIT_FAIL_ENTRY);
    NUMBER(KVM_EXIT_INTR);
    NUMBER(KVM_EXIT_INTERNAL_ERROR);
    NUMBER(KVM_EXIT_SYSTEM_EVENT);
    NUMBER(KVM_EXIT_IO_IN);
    NUMBER(KVM_EXIT_IO_OUT);
    NUMBER(KVM_SYSTEM_EVENT_CRASH);
    NUMBER(KVMIO);
    NUMBER(KVM_GET_API_VERSION);
    NUMBER(KVM_CREATE_VM);
    NUMBER(KVM_CHECK_EXTENSION);
    NUMBER(KVM_GET_VCPU_MMAP_SIZE);
    NUMBER(KVM_CREATE_VCPU);
    NUMBER(KVM_RUN);
    NUMBER(KVM_GET_REGS);
    NUMBER(KVM_SET_REGS);
    NUMBER(KVM_GET_SREGS);
    NUMBER(KVM_SET_SREGS);
    NUMBER(KVM_SET_USER_MEMORY_REGION);
    NUMBER(KVM_REGISTER_COALESCED_MMIO);
    NUMBER(KVM_UNREGISTER_COALESCED_MMIO);
    NUMBER(KVM_CAP_COALESCED_MMIO);
    NUMBER(KVM_CAP_IMMEDIATE_EXIT);
    NUMBER(KVM_CAP_COALESCED_PIO);
    NUMBER(KVM_COALESCED_MMIO_MAX);

    SIZE(kvm_run);
    OFFSET(kvm_run, immediate_exit);
    SAY("sizeof kvm_run.immediate_exit", sizeof((struct kvm_run *)0)->immediate_exit);
    OFFSET(kvm_run, exit_reason);
    OFFSET(kvm_run, io);
    OFFSET(kvm_run, io.direction);
    OFFSET(kvm_run, io.size);
    OFFSET(kvm_run, io.port);
    OFFSET(kvm_run, io.count);
    OFFSET(kvm_run, io.data_offset);
    OFFSET(kvm_run, mmio);
    OFFSET(kvm_run, mmio.phys_addr);
    OFFSET(kvm_run, mmio.data);
    OFFSET(kvm_run, mmio.len);
    OFFSET(kvm_run, mmio.is_write);
    OFFSET(kvm_run, system_event.type);
    OFFSET(kvm_run, fail_entry.hardware_entry_failure_reason);
    OFFSET(kvm_run, internal.suberror);

    SIZE(kvm_coalesced_mmio);
    OFFSET(kvm_coalesced_mmio, phys_addr);
    OFFSET(kvm_coalesced_mmio, len);
    OFFSET(kvm_coalesced_mmio, pio);
    OFFSET(kvm_coalesced_mmio, data);
    SIZE(kvm_coalesced_mmio_ring);
    OFFSET(kvm_coalesced_mmio_ring, first);
    OFFSET(kvm_coalesced_mmio_ring, last);
    OFFSET(kvm_coalesced_mmio_ring, coalesced_mmio);
    SIZE(kvm_coalesced_mmio_zone);
    OFFSET(kvm_coalesced_mmio_zone, addr);
    OFFSET(kvm_coalesced_mmio_zone, size);
    OFFSET(kvm_coalesced_mmio_zone, pio);
    SIZE(kvm_userspace_memory_region);
    OFFSET(kvm_userspace_memory_region, slot);
    OFFSET(kvm_userspace_memory_region, flags);
    OFFSET(kvm_userspace_memory_region, guest_phys_addr);
    OFFSET(kvm_userspace_memory_region, memory_size);
    OFFSET(kvm_userspace_memory_region, userspace_addr);

    SIZE(kvm_regs);
    OFFSET(kvm_regs, rax);
    OFFSET(kvm_regs, rbx);
    OFFSET(kvm_regs, rcx);
    OFFSET(kvm_regs, rdx);
    OFFSET(kvm_regs, rsi);
    OFFSET(kvm_regs, rdi);
    OFFSET(kvm_regs, rsp);
    OFFSET(kvm_regs, rbp);
    OFFSET(kvm_regs, r8);
    OFFSET(kvm_regs, r9);
    OFFSET(kvm_regs, r10);
    OFFSET(kvm_regs, r11);
    OFFSET(kvm_regs, r12);
    OFFSET(kvm_regs, r13);
    OFFSET(kvm_regs, r14);
    OFFSET(kvm_regs, r15);
    OFFSET(kvm_regs, rip);
    OFFSET(kvm_regs, rflags);
    SIZE(kvm_segment);
    OFFSET(kvm_segment, base);
    OFFSET(kvm_segment, limit);
    OFFSET(kvm_segment, selector);
    OFFSET(kvm_segment, type);
    OFFSET(kvm_segment, present);
    OFFSET(kvm_segment, dpl);
    OFFSET(kvm_segment, db);
    OFFSET(kvm_segment, s);
    OFFSET(kvm_segment, l);
    OFFSET(kvm_segment, g);
    OFFSET(kvm_segment, avl);
    OFFSET(kvm_segment, unusable);
    SIZE(kvm_sregs);
    OFFSET(kvm_sregs, cs);
    OFFSET(kvm_sregs, ds);
    OFFSET(kvm_sregs, es);
    OFFSET(kvm_sregs, fs);
    OFFSET(kvm_sregs, gs);
    OFFSET(kvm_sregs, ss);
    OFFSET(kvm_sregs, cr0);
    return 0;
}
