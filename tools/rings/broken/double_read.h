/*
 * The producer takes its own index from the ring, checks it, and takes it from there a second time
 * to use it, as KVM did until CVE-2019-14821: the other process can change it in between.
 *
 * So that it shows: some time passes in between, as it does when the processor is taken away just
 * then. Two loads in a row see different values once in a million changes of the index.
 */
#ifndef COALESCED_DOUBLE_READ_H
#define COALESCED_DOUBLE_READ_H

#define ring_append ring_append_of_today
#include "exit.h"
#include "ring.h"
#undef ring_append

#ifndef PAUSES
#define PAUSES 20
#endif

static inline enum ring_status ring_append(struct ring_producer *p, uint64_t phys_addr,
                                           uint32_t len, uint32_t pio, uint64_t data)
{
    uint32_t last = atomic_load_explicit(&p->ring->last, memory_order_relaxed);
    if (last >= p->slots) {
        p->bad = last;
        return RING_BAD_LAST;
    }
    p->first = atomic_load_explicit(&p->ring->first, ORDER_ACQUIRE_FIRST);
    if ((last + 1 == p->slots ? 0 : last + 1) == p->first)
        return RING_FULL;
    for (int i = 0; i < PAUSES; i++)
        cpu_relax();
    last = atomic_load_explicit(&p->ring->last, memory_order_relaxed);
    struct coalesced_slot *slot = &p->ring->slot[last];
    atomic_store_explicit(&slot->word[0], phys_addr, memory_order_relaxed);
    atomic_store_explicit(&slot->word[1], (uint64_t)pio << 32 | len, memory_order_relaxed);
    atomic_store_explicit(&slot->word[2], data, memory_order_relaxed);
    p->next = last + 1 == p->slots ? 0 : last + 1;
    /* The slot of the next entry. */
    atomic_store_explicit(&p->ring->last, p->next, ORDER_RELEASE_LAST);
    p->published = p->next;
    return RING_OK;
}

#endif
