/*
 * KVM's check for a full ring from 2009 to 6.12: the difference of two unsigned indices is taken
 * modulo the slots, but 2^32 is no multiple of them.
 *
 * From some places the ring then counts as full when half of it is in use, and where `first` comes
 * to lie on slot 0 while `last` is far ahead of it, it counts as not full when it is: the next entry
 * makes it look empty. That takes a consumer that drains while the guest runs.
 */
#ifndef COALESCED_FULL_CHECK_2009_H
#define COALESCED_FULL_CHECK_2009_H

#define ring_append ring_append_of_today
#include "ring.h"
#undef ring_append

static inline enum ring_status ring_append(struct ring_producer *p, uint64_t phys_addr,
                                           uint32_t len, uint32_t pio, uint64_t data)
{
    uint32_t first = atomic_load_explicit(&p->ring->first, ORDER_ACQUIRE_FIRST);
    if ((first - p->next - 1) % p->slots == 0)
        return RING_FULL;
    struct coalesced_slot *slot = &p->ring->slot[p->next];
    atomic_store_explicit(&slot->word[0], phys_addr, memory_order_relaxed);
    atomic_store_explicit(&slot->word[1], (uint64_t)pio << 32 | len, memory_order_relaxed);
    atomic_store_explicit(&slot->word[2], data, memory_order_relaxed);
    p->next = p->next + 1 == p->slots ? 0 : p->next + 1;
    return RING_OK;
}

#endif
