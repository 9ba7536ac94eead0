/*
 * The lock of a ring with several producers, threads of one process: KVM's ring_lock.
 *
 * It lies in the guest process's own memory, so that no VMM can hold it. A thread that finds it
 * taken spins for a batch's time, then sleeps in the kernel.
 *
 *   producer                                      the next producer
 *   L1  0 -> 1                 --acquire--
 *   P1 to P3, private copies of the indices
 *   L2  -> 0                   --release-->       L1  acquire
 */
#ifndef COALESCED_RING_LOCK_H
#define COALESCED_RING_LOCK_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The orders that a test weakens one at a time, to see that something finds it. */
#ifndef ORDER_ACQUIRE_LOCK
#define ORDER_ACQUIRE_LOCK memory_order_acquire
#endif
#ifndef ORDER_RELEASE_LOCK
#define ORDER_RELEASE_LOCK memory_order_release
#endif

#ifndef LOCK_SPINS
#define LOCK_SPINS 100u /* a batch of 64 entries takes about a µs */
#endif

enum { LOCK_FREE = 0, LOCK_HELD = 1, LOCK_AWAITED = 2 }; /* AWAITED: held, and somebody may sleep */

struct ring_lock {
    _Alignas(64) _Atomic uint32_t state;
};

static inline bool ring_lock_try(struct ring_lock *l)
{
    uint32_t expected = LOCK_FREE;
    /*
     * L1, acquire: pairs with L2, the release of the holder before. Without it we could go on from
     * older copies of the indices than it left: two entries in one slot.
     */
    return atomic_compare_exchange_strong_explicit(&l->state, &expected, LOCK_HELD,
                                                   ORDER_ACQUIRE_LOCK, memory_order_relaxed);
}

/* Sleep until it is free. Whoever has slept must assume that others do, too. */
static inline void ring_lock_sleep(struct ring_lock *l)
{
    /* L1, as in ring_lock_try. */
    while (atomic_exchange_explicit(&l->state, LOCK_AWAITED, ORDER_ACQUIRE_LOCK) != LOCK_FREE)
        syscall(SYS_futex, &l->state, FUTEX_WAIT_PRIVATE, LOCK_AWAITED, NULL, NULL, 0);
}

static inline void ring_lock_take(struct ring_lock *l)
{
    for (uint32_t i = 0; i < LOCK_SPINS; i++) {
        if (atomic_load_explicit(&l->state, memory_order_relaxed) == LOCK_FREE && ring_lock_try(l))
            return;
        cpu_relax();
    }
    ring_lock_sleep(l);
}

static inline void ring_lock_give(struct ring_lock *l)
{
    /*
     * L2, release: pairs with L1, the acquire of the next holder. Without it the next holder could
     * write into a slot before our entry there, which it is to follow.
     */
    if (atomic_exchange_explicit(&l->state, LOCK_FREE, ORDER_RELEASE_LOCK) == LOCK_AWAITED)
        syscall(SYS_futex, &l->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#endif
