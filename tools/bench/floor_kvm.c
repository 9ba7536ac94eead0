/* The floor of a guest on KVM: a bare loop around KVM_RUN that drains the ring at every exit. */
#define _GNU_SOURCE
#include "core.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include "floor_kvm.h"

#define KVM_RUN 0xae80u
#define SLOTS_MOST 170u

/* Run to the halt; every load gets 0. ns, or -1 with errno set. */
static double run_to_halt(int fd, uint8_t *base, size_t ring_offset)
{
    struct coalesced_entry out[SLOTS_MOST];
    struct run_page *run = (struct run_page *)(void *)base;
    struct ring_consumer c;
    uint32_t count;
    errno = EPROTO;
    if (ring_consumer_init(&c, (struct coalesced_ring *)(void *)(base + ring_offset), PAGE) !=
        RING_OK)
        return -1;
    uint64_t started = now_ns();
    for (;;) {
        if (ioctl(fd, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (ring_peek(&c, out, c.slots, &count) != RING_OK) {
            errno = EPROTO;
            return -1;
        }
        ring_commit(&c, count);
        switch (run->exit_reason) {
        case EXIT_HLT:
            return (double)(now_ns() - started);
        case EXIT_MMIO:
            if (!run->mmio.is_write)
                run->mmio.data = 0;
            break;
        case EXIT_IO:
            if (run->io.direction == IO_IN)
                *(uint64_t *)(void *)(base + PAGE) = 0;
            break;
        default:
            errno = EPROTO;
            return -1;
        }
    }
}

double floor_kvm(int fd, size_t size, size_t ring_offset)
{
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -1;
    double ns = run_to_halt(fd, base, ring_offset);
    int error = errno;
    munmap(base, size);
    errno = error;
    return ns;
}
