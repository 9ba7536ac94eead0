/*
 * hv/core/ring_lock.h: two producers that append to one ring, each under the lock, and the consumer.
 * The slot of the next entry, which the holder keeps in plain memory of the guest process, is
 * relaxed here. A sleeper in the kernel goes on when the lock's word changes.
 */
#include "litmus.h"

#include <unistd.h>

#define LOCK_SPINS 1
#define syscall litmus_futex

static long litmus_futex(long number, _Atomic uint32_t *word, int operation, uint32_t value, ...);

#include "pipes.h"
#include "exit.h"
#include "ring.h"
#include "ring_lock.h"

#define LOCK_SLOTS 3

static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * LOCK_SLOTS];
} shared;
static struct ring_lock lock;
static _Atomic uint32_t next;

static long litmus_futex(long number, _Atomic uint32_t *word, int operation, uint32_t value, ...)
{
    (void)number;
    if (operation == FUTEX_WAIT_PRIVATE)
        await(atomic_load_explicit(word, memory_order_relaxed) != value);
    return 0;
}

static void append(uint32_t n)
{
    ring_lock_take(&lock);
    uint32_t slot = atomic_load_explicit(&next, memory_order_relaxed);
    struct ring_producer producer = {
        .ring = &shared.ring, .slots = LOCK_SLOTS, .next = slot, .published = slot};
    check(ring_append(&producer, n << 12, 4, 0, n) == RING_OK);
    ring_publish(&producer);
    atomic_store_explicit(&next, producer.next, memory_order_relaxed);
    ring_lock_give(&lock);
}

void thread0(void)
{
    append(1);
}

void thread1(void)
{
    append(2);
}

void thread2(void)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[LOCK_SLOTS];
    uint32_t taken = 0, count;
    uint64_t sum = 0;
    check(ring_consumer_init(&consumer, &shared.ring, sizeof shared) == RING_OK);
    while (taken < 2) {
        enum ring_status status;
        await((status = ring_peek(&consumer, batch, LOCK_SLOTS, &count)) != RING_OK || count);
        check(status == RING_OK);
        ring_commit(&consumer, count);
        taken += count;
        for (uint32_t i = 0; i < count; i++)
            sum += batch[i].data;
    }
    check(taken == 2 && sum == 3);
}
