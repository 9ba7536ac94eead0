/*
 * The descriptor of a ring of a device's own: readable when the VMM should look into the ring.
 *
 * The ring itself is that of ring.h. A page before it has the word below, and the notes of waits.h.
 * The guest writes the descriptor, an eventfd, when it has published entries and `wake_at` or more
 * are in the ring, once until the VMM looks: `signalled` says that it has.
 *
 *   guest                                         VMM
 *   P2, P3  entries, `last`                       A1  empties the descriptor
 *   D1  fence                                     A2  signalled = 0
 *   D2  reads `signalled`                         A3  fence
 *   D3  signalled = 1, if it was 0                C1  reads `last`; it drains the ring
 *   D4  writes the descriptor, if it was 0
 *
 * When both go on at once, either D2 sees A2, and the guest writes, or C1 sees P3, and the VMM
 * drains what the guest has published. A1 goes before A2: behind it, it could take a signal that
 * belongs to a later D3. A signal too many does no harm.
 *
 * Where several vCPUs append, D1 to D3 are done with the ring's lock held, D4 without it.
 */
#ifndef COALESCED_OWN_RING_H
#define COALESCED_OWN_RING_H

#include "ring.h"

#include <stdbool.h>

/* The order that a test weakens, to see that something finds it. */
#ifndef FENCE_OWN_RING
#define FENCE_OWN_RING memory_order_seq_cst
#endif

struct own_ring_words {
    _Alignas(64) _Atomic uint32_t signalled; /* guest sets, VMM clears: a signal is under way */
};

/* Entries in the ring, at most: an old value of first makes it more, never fewer. */
static inline uint32_t own_ring_used(const struct ring_producer *p)
{
    uint32_t first = atomic_load_explicit(&p->ring->first, memory_order_relaxed);
    return first < p->slots ? ring_distance(first, p->published, p->slots) : p->slots;
}

/* Guest, behind ring_publish: is it to write the descriptor (D4)? */
static inline bool own_ring_announce(struct own_ring_words *w, const struct ring_producer *p,
                                     uint32_t wake_at)
{
    if (own_ring_used(p) < wake_at)
        return false;
    /*
     * D1, fence: pairs with A3, the VMM's in own_ring_answer. Without it our look at `signalled`
     * could be older than our `last`, while the VMM reads `last` from before that: entries that
     * nobody looks for.
     */
    atomic_thread_fence(FENCE_OWN_RING);
    /* D2: D1 orders it after `last`. */
    if (atomic_load_explicit(&w->signalled, memory_order_relaxed))
        return false;
    /* D3: only the VMM clears it. */
    atomic_store_explicit(&w->signalled, 1, memory_order_relaxed);
    return true;
}

/* VMM: is a signal under way? One that this does not see yet makes the descriptor readable. */
static inline bool own_ring_signalled(struct own_ring_words *w)
{
    return atomic_load_explicit(&w->signalled, memory_order_relaxed) != 0;
}

/* VMM: the descriptor is empty (A1); the ring is looked into after this. */
static inline void own_ring_answer(struct own_ring_words *w)
{
    /* A2: A3 orders it before the look at `last`. */
    atomic_store_explicit(&w->signalled, 0, memory_order_relaxed);
    /* A3, fence: pairs with D1, the guest's in own_ring_announce. */
    atomic_thread_fence(FENCE_OWN_RING);
}

#endif
