/*
 * A posted write: queued like any other, then the VMM is woken if it sleeps. The guest runs on.
 *
 *   guest                                         VMM
 *   P2, P3  entry, `last`
 *   N1  posted_sequence += 1   --release-->       N5  acquire; it drains the ring after this
 *   N2  fence                                     S1, S2  need-wakeup, fence; then it re-checks
 *   N3  reads need-wakeup
 *   N4  a byte, if it is set
 *
 * The VMM clears no flag: it compares the sequence with the one that it saw last. Whatever policy
 * the other wake-ups follow, no byte is written to a VMM that is awake.
 */
#ifndef COALESCED_POSTED_H
#define COALESCED_POSTED_H

#include "exit.h"

/* The orders that a test weakens one at a time, to see that something finds it. */
#ifndef ORDER_RELEASE_POSTED
#define ORDER_RELEASE_POSTED memory_order_release
#endif
#ifndef ORDER_ACQUIRE_POSTED
#define ORDER_ACQUIRE_POSTED memory_order_acquire
#endif
#ifndef FENCE_POSTED
#define FENCE_POSTED memory_order_seq_cst
#endif

/* Guest: posted write number `n`; the ring shows its entry (P3). */
static inline void posted_announce(struct run_words *w, struct doorbell *b, uint32_t n)
{
    INJECT(before_posted);
    /*
     * N1, release: pairs with N5, the VMM's acquire in posted_take. Without it the VMM could see
     * the sequence before the entry, drain a ring without it, and sleep.
     */
    atomic_store_explicit(&w->posted_sequence, n, ORDER_RELEASE_POSTED);
    /*
     * N2, fence: pairs with S2, the VMM's in doorbell_arm. Without it our look at need-wakeup could
     * be older than our sequence, while its re-check is older than that: nobody wakes it.
     */
    atomic_thread_fence(FENCE_POSTED);
    /* N3: N2 orders it after the sequence. */
    if (atomic_load_explicit(b->peer_need_wakeup, memory_order_relaxed))
        /* N4 */
        doorbell_ring(b);
}

/* VMM: whether there was a posted write since number `seen`; posted_take says more. */
static inline bool posted_since(struct run_words *w, uint32_t seen)
{
    return atomic_load_explicit(&w->posted_sequence, memory_order_relaxed) != seen;
}

/* VMM: how many posted writes there have been; their entries are drained after this. */
static inline uint32_t posted_take(struct run_words *w)
{
    /*
     * N5, acquire: pairs with N1, the guest's release in posted_announce. Without it the ring could
     * be read before the sequence that announces its entry.
     */
    return atomic_load_explicit(&w->posted_sequence, ORDER_ACQUIRE_POSTED);
}

#endif
