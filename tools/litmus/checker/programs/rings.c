/*
 * Two vCPUs, the VM's ring under its lock, a device's own ring, guest RAM, a posted write and an exit.
 *
 *   vCPU 0: A into the device's own ring; then a flag in RAM; then B into the VM's ring, posted
 *   vCPU 1: C into the VM's ring, then an exit to the device, having looked at the flag
 *   VMM:    awake, it takes the exit and the posted write in either order
 *
 * Rule 12: what vCPU 0 queued is there before its flag is, whatever the ring. Rule 13: the exit
 * drains the VM's ring, and the own ring of its device. So an exit behind the flag finds A, each
 * exit finds C, and a posted write that was seen is in the ring.
 */
#include "litmus.h"

#include <unistd.h>

#define LOCK_SPINS 1
#define syscall litmus_futex

static long litmus_futex(long number, _Atomic uint32_t *word, int operation, uint32_t value, ...);

#include "doorbells.h"
#include "posted.h"
#include "ring.h"
#include "ring_lock.h"

#define RINGS_SLOTS 3

/* The rules that can be left out. */
#ifndef RULE_12
#define RULE_12 1
#endif
#ifndef RULE_13
#define RULE_13 1
#endif

enum { A = 1, B = 2, C = 4 };

union memory {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * RINGS_SLOTS];
};
static union memory vm, own;
static struct run_words words[2]; /* by vCPU */
static struct ring_lock lock;
static _Atomic uint32_t next; /* what the holder of the lock knows of the VM's ring */
static _Atomic uint32_t flag; /* in guest RAM; its orders are those of ram.h */

static long litmus_futex(long number, _Atomic uint32_t *word, int operation, uint32_t value, ...)
{
    (void)number;
    if (operation == FUTEX_WAIT_PRIVATE)
        await(atomic_load_explicit(word, memory_order_relaxed) != value);
    return 0;
}

static void append(union memory *to, uint32_t slot, uint32_t what)
{
    struct ring_producer producer = {
        .ring = &to->ring, .slots = RINGS_SLOTS, .next = slot, .published = slot};
    check(ring_append(&producer, what << 12, 4, 0, what) == RING_OK);
    ring_publish(&producer);
}

static void append_to_vm(uint32_t what)
{
    ring_lock_take(&lock);
    uint32_t slot = atomic_load_explicit(&next, memory_order_relaxed);
    append(&vm, slot, what);
    atomic_store_explicit(&next, slot + 1, memory_order_relaxed);
    ring_lock_give(&lock);
}

void thread0(void)
{
    struct doorbell b = doorbell(&words[0].hv_need_wakeup, &words[0].vmm_need_wakeup, 1, 0);
    if (RULE_12)
        append(&own, 0, A);
    atomic_store_explicit(&flag, 1, memory_order_release);
    if (!RULE_12)
        append(&own, 0, A);
    append_to_vm(B);
    posted_announce(&words[0], &b, 1);
}

void thread1(void)
{
    append_to_vm(C);
    /* The payload of the exit says whether it is behind the flag. */
    atomic_store_explicit(&words[1].irq_lines, atomic_load_explicit(&flag, memory_order_acquire),
                          memory_order_relaxed);
    exit_post(&words[1], 1);
}

static uint32_t drained(union memory *from, struct ring_consumer *consumer)
{
    struct coalesced_entry batch[RINGS_SLOTS];
    uint32_t count, found = 0;
    if (!consumer->ring)
        check(ring_consumer_init(consumer, &from->ring, sizeof *from) == RING_OK);
    check(ring_peek(consumer, batch, RINGS_SLOTS, &count) == RING_OK);
    ring_commit(consumer, count);
    for (uint32_t i = 0; i < count; i++)
        found |= (uint32_t)batch[i].data;
    return found;
}

void thread2(void)
{
    struct ring_consumer of_vm = {0}, of_own = {0};
    uint32_t seen = 0;
    bool handled = false;
    while (!handled || !(seen & B)) {
        bool exited = false, announced = false;
        await((!handled && (exited = exit_take(&words[1]) == 1)) ||
              (!(seen & B) && (announced = posted_take(&words[0]) == 1)));
        seen |= drained(&vm, &of_vm);
        if (announced)
            check(seen & B);
        if (!exited)
            continue;
        if (RULE_13)
            seen |= drained(&own, &of_own);
        check(seen & C);
        if (atomic_load_explicit(&words[1].irq_lines, memory_order_relaxed))
            check(seen & A);
        handled = true;
    }
}
